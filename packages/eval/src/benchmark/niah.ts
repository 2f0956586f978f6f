import { createHash } from 'node:crypto';
import type { NiahConfig } from '../config/types.js';
import { needleForm, type NeedleForm } from '../niah/forms.js';
import { hayOf } from '../niah/hay.js';
import { makeSample } from '../niah/make-sample.js';
import { readDefaultEssay, readEssay } from '../text/essay.js';
import { collapseAndSplit } from '../text/python-text.js';
import type { Benchmark, EvalTask } from './types.js';

/**
 * A needle in a haystack: a task for each length, whose samples go through the depths (`facts.depth`, percent), so that
 * a length and a depth are a cell of the heatmap. After the last depth they begin again with another part of the essay.
 *
 * Method: gkamradt/LLMTest_NeedleInAHaystack; prompt and score: the seed toolkit.
 * @throws AccelError ERR_ACCEL_FILE when the essay cannot be read
 */
export async function openNiah(config: NiahConfig): Promise<Benchmark> {
  const { depths, buffer, seed, essayPath } = config;
  const text = await (essayPath === undefined ? readDefaultEssay() : readEssay(essayPath));
  const essay = collapseAndSplit(text).join(' ');
  const form = needleForm(config);
  return {
    name: 'NIAH',
    tasks: config.lengths.map((length) => niahTask(length, form)),
    fingerprint: fingerprint(config, essay),
    *samples(task, meter) {
      const hay = hayOf(essay, seed, meter);
      let index = 0;
      for (const needle of form.needles()) {
        yield undefined;
        const depth = depths[index % depths.length] ?? 0;
        const round = Math.floor(index / depths.length);
        yield makeSample(task, { index, depth, round, buffer }, needle, hay, meter);
        index++;
      }
    },
    score: (_task, prediction, { references }) => form.score(prediction, references),
  };
}

function niahTask(length: number, { maxNewTokens, metric }: NeedleForm): EvalTask {
  return { id: `niah_${length}`, name: 'niah', length, maxNewTokens, metric: { name: metric } };
}

function fingerprint(config: NiahConfig, essay: string): string {
  const { needle, question, answer, depths, buffer, seed } = config;
  const parts = JSON.stringify([needle, question, answer, depths, buffer, seed]);
  return createHash('sha256').update(parts).update(essay).digest('hex').slice(0, 16);
}
