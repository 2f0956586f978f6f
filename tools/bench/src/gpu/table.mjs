// Turns the JSON lines of bench:gpu into the Markdown tables of docs/performance.md.
//
//   node tools/bench/src/gpu/table.mjs file.jsonl
import { readFileSync } from 'node:fs';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';

const GB = 1e9;

/** @param {object[]} lines @returns {string} Markdown */
export function renderTables(lines) {
  const of = (group, test = () => true) =>
    lines.filter(
      (line) =>
        line.group === group &&
        line.skipped === undefined &&
        line.error === undefined &&
        test(line),
    );
  const machine = lines.find(({ group }) => group === 'machine');
  const parts = [];
  if (machine !== undefined)
    parts.push(
      `${machine.name} (${machine.isa}, ${machine.multiprocessors} multiprocessors, ${gb(machine.memoryBytes)}), Node ${machine.node}.`,
    );
  section(
    parts,
    'Ceilings',
    ['operation', 'size', 'time', 'rate'],
    of('ceilings').map((line) => [line.name, line.shape, time(line.us), rate(line)]),
  );
  section(
    parts,
    'Kernels',
    ['kernel', 'shape', 'time', 'rate', 'of the ceiling', 'ran'],
    of('kernels', ({ us }) => us !== undefined).map((line) => [
      line.name,
      line.shape,
      time(line.us),
      rate(line),
      percent(line.share),
      (line.kernels ?? []).join(', '),
    ]),
  );
  section(
    parts,
    'Model: prompts',
    ['tokens', 'batch', 'time', 'tokens/s', 'TFLOP/s', 'of the GEMM ceiling'],
    of('model', ({ name }) => name === 'prefill').map((line) => [
      line.length,
      line.batch,
      `${line.ms.toFixed(0)} ms`,
      Math.round(line.tokensPerSecond),
      Math.round(line.tflops),
      percent(line.share),
    ]),
  );
  section(
    parts,
    'Model: decode',
    ['rows', 'batch', 'a step', 'tokens/s', 'GB/s', 'of the copy ceiling'],
    of('model', ({ name }) => name === 'decode').map((line) => [
      line.length,
      line.batch,
      `${line.ms.toFixed(2)} ms`,
      Math.round(line.tokensPerSecond),
      Math.round(line.gbps),
      percent(line.share),
    ]),
  );
  section(
    parts,
    'Model: SnapKV',
    ['tokens', 'prompt', 'a step', 'tokens/s', 'cache', 'full cache'],
    of('model', ({ name }) => name.startsWith('SnapKV')).map((line) => [
      line.length,
      `${line.prefillMs.toFixed(0)} ms`,
      `${line.ms.toFixed(2)} ms`,
      Math.round(line.tokensPerSecond),
      gb(line.kvBytes),
      gb(line.fullBytes),
    ]),
  );
  const full = lines.find(({ group, name }) => group === 'methods' && name === 'decode full');
  section(
    parts,
    'Methods: column sums beside attention',
    ['tokens', 'column sums', 'attention', 'share', 'ran'],
    of('methods', ({ name }) => name === 'column_sums').map((line) => [
      line.length,
      time(line.us),
      time(line.attentionUs),
      percent(line.ratio),
      line.kernels.join(', '),
    ]),
  );
  section(
    parts,
    'Methods: prompts',
    ['method', 'tokens', 'prompt', 'plain', 'added', 'of attention', 'rows a head'],
    of('methods', ({ overhead }) => overhead !== undefined).map((line) => [
      line.name,
      line.length,
      `${line.prefillMs.toFixed(0)} ms`,
      `${line.plainMs.toFixed(0)} ms`,
      `${(100 * line.overhead).toFixed(1)} %`,
      `${(100 * line.ofAttention).toFixed(0)} %`,
      Math.round(line.rows),
    ]),
  );
  section(
    parts,
    'Methods: decode',
    ['policy', 'tokens before', 'a step', 'faster than full', 'cache'],
    of('methods', ({ decodeMs }) => decodeMs !== undefined).map((line) => [
      line.name.replace('decode ', ''),
      line.length,
      `${line.decodeMs.toFixed(2)} ms`,
      full?.decodeMs === undefined ? '' : (full.decodeMs / line.decodeMs).toFixed(2),
      gb(line.kvBytes),
    ]),
  );
  const sparse = (test) => of('sparse', test);
  section(
    parts,
    'Sparse prefill: attention over random blocks',
    ['tokens', 'density', 'time', 'faster than dense', 'of the dense rate'],
    sparse(({ name, data }) => name === 'random blocks' && data === 'mixed').map((line) => [
      line.length,
      percent(line.density),
      time(line.us),
      line.speedup.toFixed(1),
      percent(line.ofDenseRate),
    ]),
  );
  section(
    parts,
    'Sparse prefill: choosing and attending',
    [
      'data',
      'tokens',
      'method',
      'density',
      'choosing',
      'of dense',
      'both',
      'faster than dense',
      'at 10 %',
    ],
    sparse(({ chooseUs }) => chooseUs !== undefined).map((line) => [
      line.data,
      line.length,
      line.name,
      line.density.toFixed(3),
      time(line.chooseUs),
      percent(line.ofDense),
      time(line.us),
      line.speedup.toFixed(1),
      line.atTenth.toFixed(1),
    ]),
  );
  section(
    parts,
    'Sparse prefill: peers',
    ['data', 'tokens', 'what', 'density', 'time', 'FlexPrefill here', 'faster'],
    sparse(({ name }) => /^(original|cuDNN)/.test(name)).map((line) => {
      const own = sparse(({ name, data, length }) => {
        return name === 'FlexPrefill' && data === line.data && length === line.length;
      })[0];
      return [
        line.data,
        line.length,
        line.name,
        line.density?.toFixed(3),
        time(line.us),
        own && time(own.us),
        own && (line.us / own.us).toFixed(1),
      ];
    }),
  );
  section(
    parts,
    'Sparse prefill: prompts',
    ['prompt', 'tokens', 'time', 'faster than dense', 'density', 'choosing'],
    sparse(({ ms }) => ms !== undefined).map((line) => [
      line.name,
      line.length,
      `${line.ms.toFixed(0)} ms`,
      line.speedup?.toFixed(2),
      line.density?.toFixed(3),
      line.estimateMs === undefined ? '' : `${line.estimateMs.toFixed(0)} ms`,
    ]),
  );
  section(
    parts,
    'Model: device memory',
    ['tokens', 'peak', 'weights', 'cache', 'workspace'],
    of('model', ({ name }) => name === 'memory').map((line) => [
      line.length,
      gb(line.peakBytes),
      gb(line.weightBytes),
      gb(line.kvBytes),
      gb(line.workspaceBytes),
    ]),
  );
  section(
    parts,
    'Memory: estimate and peak',
    [
      'policy',
      'prompts',
      'estimate',
      'peak',
      'difference',
      'driver',
      'KV said',
      'KV taken',
      'other said',
      'other taken',
    ],
    of('memory', ({ measuredBytes }) => measuredBytes !== undefined).map((line) => {
      const { estimate, measured } = line;
      const { tensors, temporary, scratch, idle } = estimate.workspace;
      return [
        line.name,
        `${line.batch} × ${line.tokens}${line.together ? ' together' : ''}`,
        gb(line.estimateBytes),
        gb(line.measuredBytes),
        `${(100 * line.difference).toFixed(1)} %`,
        gb(measured.driver),
        gb(estimate.kv.peak),
        gb(measured.kvPeak),
        gb(tensors + temporary + scratch + idle + estimate.kv.tables),
        gb(measured.peak - measured.weights - measured.kvPeak),
      ];
    }),
  );
  section(
    parts,
    'Peers: kernels',
    ['kernel', 'shape', 'time', 'rate', 'ours / peer'],
    of('peers', ({ us }) => us !== undefined).map((line) => [
      line.name,
      line.shape,
      time(line.us),
      rate(line),
      ratio(ours(lines, line)?.us, line.us),
    ]),
  );
  section(
    parts,
    'Peers: model',
    ['what', 'tokens', 'time', 'tokens/s', 'ours / peer'],
    of('peers', ({ ms }) => ms !== undefined).map((line) => [
      line.name,
      line.length,
      `${line.ms.toFixed(line.ms < 100 ? 2 : 0)} ms`,
      Math.round(line.tokensPerSecond),
      ratio(ours(lines, line)?.ms, line.ms),
    ]),
  );
  const notes = lines.filter(({ skipped, error }) => skipped !== undefined || error !== undefined);
  if (notes.length > 0) {
    const text = ({ group, name, shape, length, skipped, error }) =>
      `- ${[group, name, shape ?? length].filter(Boolean).join(' ')}: ${error === undefined ? `not measured, ${skipped}` : `failed, ${error}`}`;
    parts.push(`### Not measured\n\n${notes.map(text).join('\n')}`);
  }
  const load = lines.find(({ group, name }) => group === 'model' && name === 'load');
  if (load !== undefined)
    parts.push(
      `${gb(load.weightBytes)} of weights were loaded from the page cache in ${load.seconds.toFixed(1)} s (${load.gbps.toFixed(1)} GB/s).`,
    );
  return parts.join('\n\n');
}

/** Our measurement of what a peer's line measures. A ratio below 1 means that ours took less time. */
function ours(lines, peer) {
  const same = (group, name, key) =>
    lines.find(
      (line) =>
        line.group === group &&
        line.name?.startsWith(name) &&
        key(line) &&
        line.skipped === undefined,
    );
  if (peer.name === 'torch copy') return same('ceilings', 'copy', () => true);
  if (peer.name.includes('(prefill)'))
    return same('kernels', 'attention (prefill)', ({ shape }) => shape === peer.shape);
  if (peer.name.includes('(decode)'))
    return same('kernels', 'attention (decode)', ({ shape }) => shape === peer.shape);
  if (peer.name === 'torch rms_norm')
    return same('kernels', 'rmsnorm', ({ shape }) => shape === peer.shape);
  if (peer.name === 'torch linear' && peer.shape.includes('³'))
    return same('ceilings', 'bf16 GEMM', () => true);
  if (peer.name === 'torch linear')
    return same('kernels', 'linear', ({ shape }) => shape === peer.shape);
  const at = ({ length, batch }) => length === peer.length && batch === 1;
  if (peer.name === 'transformers prefill') return same('model', 'prefill', at);
  if (peer.name.startsWith('transformers decode')) return same('model', 'decode', at);
  return undefined;
}

function section(parts, title, head, rows) {
  if (rows.length === 0) return;
  const row = (cells) => `| ${cells.map((cell) => cell ?? '').join(' | ')} |`;
  parts.push(
    [`### ${title}`, '', row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n'),
  );
}

function time(us) {
  return us < 1000
    ? `${us.toFixed(us < 100 ? 2 : 1)} µs`
    : `${(us / 1000).toFixed(us < 100_000 ? 2 : 0)} ms`;
}

function rate({ tflops, gbps }) {
  return tflops === undefined ? `${Math.round(gbps)} GB/s` : `${tflops.toFixed(0)} TFLOP/s`;
}

function percent(share) {
  return share === undefined || share === null || Number.isNaN(share)
    ? ''
    : `${(100 * share).toFixed(0)} %`;
}

function ratio(mine, theirs) {
  return mine === undefined ? '' : (mine / theirs).toFixed(2);
}

function gb(bytes) {
  return bytes === undefined || bytes === null ? '' : `${(bytes / GB).toFixed(2)} GB`;
}

if (argv[1] !== undefined && import.meta.url === pathToFileURL(argv[1]).href) {
  const lines = readFileSync(argv[2], 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{'));
  console.log(renderTables(lines.map((line) => JSON.parse(line))));
}
