import type { PromptSpecimen, RunCall } from '../../../runner/run-file.js';
import { formatBytes, formatClock } from '../../format.js';
import type { LoadedRun } from '../../read-run.js';
import { foldedHtml, listHtml, tableHtml } from '../elements.js';
import { escape } from '../escape.js';
import type { Section, SectionContext } from './section.js';

/** What was run: everything needed to know what the numbers are numbers of. */
export function aboutSection({ runs }: SectionContext): Section {
  return { id: 'about', title: 'What was run', body: runs.map(describeRun).join('\n') };
}

function describeRun(loaded: LoadedRun): string {
  const { name, run, summary } = loaded;
  const { settings, tasks } = run;
  const { expected, answered, failed } = summary.records;
  const missing = expected - answered - failed;
  const list = listHtml([
    ['model', `${settings.model}, ${settings.dtype} (files ${settings.modelFiles})`],
    ['benchmark', `${settings.benchmark}, data ${settings.sources}`],
    [
      'samples',
      `${[...new Set(tasks.map(({ samples }) => samples))].join(' to ')} of each of ${tasks.length} tasks and lengths, in ${run.modes.join(', ')}`,
    ],
    ['records', `${answered} of ${expected}${failed > 0 ? `, ${failed} failed` : ''}`],
    ['seeds', JSON.stringify(run.seeds)],
    ['config', JSON.stringify(run.config)],
    [
      'prompts up to',
      settings.maxLength === null
        ? "the model's window"
        : `${settings.maxLength} tokens, cut in the middle`,
    ],
    ['strict', run.strict ? 'yes: a method that never acts, or a fallback, fails the run' : 'no'],
  ]);
  return `<h3>${escape(name)}</h3>
${missing > 0 ? `<p class="warn">This run is not complete: ${missing} records are still to be made. Means are over what is there.</p>` : ''}
${list}
${tableHtml({
  title: 'Calls',
  labels: 1,
  head: ['Started', 'Took', 'Resumed at', 'Answered by', 'Batch', 'Devices', 'Machine', 'Versions'],
  rows: run.calls.map(callRow),
})}
${tableHtml({
  title: 'Methods',
  labels: 1,
  head: ['Method', 'Digest', 'Parts'],
  rows: run.methods.map(({ name: method, digest, policy }) => [
    method,
    digest,
    policy.parts.length === 0 ? 'none: full attention, full cache' : JSON.stringify(policy.parts),
  ]),
})}
<h4>Prompts as they were fed</h4>
${run.prompts.map(promptHtml).join('\n')}`;
}

function callRow(call: RunCall): string[] {
  const { hardware } = call;
  return [
    call.started,
    call.finished === null
      ? `${formatClock(call.seconds)}, not finished`
      : formatClock(call.seconds),
    String(call.resumed),
    call.executor,
    String(call.batchSize),
    hardware.devices.join(', '),
    `${hardware.cpu}, ${hardware.cores} cores, ${formatBytes(hardware.memoryBytes)}, ${hardware.platform}`,
    Object.entries(call.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
  ];
}

function promptHtml(prompt: PromptSpecimen): string {
  const { task, mode, tokens, head, tail, ids, stopIds, stop } = prompt;
  const text = `${head}\n[…]\n${tail}\n\nfirst ids: ${ids.join(' ')}\nstop ids: ${stopIds.join(' ') || 'none'}\nstop texts: ${stop.length === 0 ? 'none' : JSON.stringify(stop)}`;
  return foldedHtml(`${task}, ${mode}, ${tokens} tokens`, text);
}
