import type { AttentionMap, HeadMap, LayerMap } from './attention-map.js';
import { encodeFlags, encodeMass } from './encoding.js';
import { pageStyle } from './style.js';
import { viewerScript } from './viewer.js';

/** What the page says about the run besides the map. */
export interface PageFacts {
  readonly model: string;
  /** Name of the method, `full` for none. */
  readonly method: string;
  /** The method's options as JSON; undefined without a method. */
  readonly options: string | undefined;
  readonly dtype: string;
  readonly device: string;
  /** Where the text came from. */
  readonly text: string;
  readonly version: string;
  readonly date: string;
}

/** Least mass on the colour scale: 10 to the minus this. */
const SCALE = 6;

/** What the table of heads can show. `null` where no blocks were chosen. */
export function summaryValues(head: HeadMap): (number | null)[] {
  const { chosen } = head;
  if (chosen === undefined) return [1, null, 1, 1];
  return [chosen.density, chosen.told[0] ?? null, chosen.recall.mean, chosen.recall.min];
}
const MEASURES = [
  'density: blocks computed',
  'recall that the method estimates',
  'true recall, mean over row blocks',
  'true recall, least of a row block',
];

/** The whole page as one file: nothing is loaded, and its own policy forbids it to. */
export function renderPage(map: AttentionMap, facts: PageFacts): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Attention of ${escape(facts.model)} under ${escape(facts.method)}</title>
<style>${pageStyle}</style>
</head>
<body>
<h1>Attention of ${escape(facts.model)} under ${escape(facts.method)}</h1>
${renderFacts(map, facts)}
${renderSummary(map)}
<div class="bar">
<span class="key"><i style="background:var(--computed)"></i>computed</span>
<span class="key"><i style="background:var(--out)"></i>left out</span>
<span class="key"><i style="background:var(--dense)"></i>computed because all are</span>
<span class="key"><i style="background:var(--unseen)"></i>not looked at</span>
<span class="key">share of attention 1e-${SCALE} <canvas id="scale" role="img" aria-label="colour scale, dark is little"></canvas> 1</span>
<label class="key"><input type="checkbox" id="lost"> only attention that was left out</label>
</div>
<main>
${map.layers.map((layer, index) => renderLayer(map, layer, index)).join('\n')}
</main>
<div id="tip" role="status" hidden></div>
${script('facts', {
  tokens: map.tokens,
  blocks: map.blocks,
  scale: SCALE,
  told: map.told,
  spans: map.layers.map(({ spans }) => spans),
})}
${map.layers.map((layer, index) => script(`layer-${index}`, layer.heads.map(headData))).join('\n')}
<script>${viewerScript}</script>
</body>
</html>
`;
}

/** A head as the page's script reads it. */
export function headData(head: HeadMap): Record<string, unknown> {
  return { mass: encodeMass(head.mass), mask: encodeFlags(head.computed), chosen: head.chosen };
}

function renderFacts(map: AttentionMap, facts: PageFacts): string {
  const rows: [string, string][] = [
    ['model', `${facts.model}, ${facts.dtype}, ${facts.device}`],
    ['method', facts.options === undefined ? facts.method : `${facts.method} ${facts.options}`],
    ['text', `${facts.text}, ${map.tokens} tokens, ${map.blocks} × ${map.blocks} blocks`],
    ['made', `${facts.date} by accel ${facts.version}`],
  ];
  const list = rows.map(([name, value]) => `<dt>${name}</dt><dd>${escape(value)}</dd>`).join('\n');
  return `<dl>
${list}
</dl>
<p>Queries are cut into blocks of 128 from top to bottom, keys into blocks of 128 from left to right. Beside the blocks
that were computed is where the attention lies: the share of a block of queries' attention that each block of keys would get
if all of it were computed. Point at a block, or move with the arrow keys, to read it. Each layer has the input that
the layers before it really made, sparse where they were.</p>
<p class="soft">Density, and both recalls, are over the row blocks for which the method chose blocks. Recall is the share of
attention that lies in computed blocks.</p>`;
}

function renderSummary(map: AttentionMap): string {
  const heads = map.layers[0]?.heads.length ?? 0;
  const options = MEASURES.map((name, index) => `<option value="${index}">${name}</option>`);
  const head = Array.from({ length: heads }, (_, h) => `<th scope="col">${h}</th>`).join('');
  const rows = map.layers.map((layer, index) => {
    const values = layer.heads.map(summaryValues);
    const cells = values.map(
      (list, h) =>
        `<td data-values="${escape(JSON.stringify(list))}"><a href="#head-${index}-${h}">${percent(list[0])}</a></td>`,
    );
    const mean = MEASURES.map((_, measure) => meanOf(values.map((list) => list[measure] ?? null)));
    return `<tr><th scope="row">layer ${index}</th>${cells.join('')}<td data-values="${escape(JSON.stringify(mean))}">${percent(mean[0])}</td></tr>`;
  });
  return `<h2>All heads</h2>
<p><label>In percent: <select id="measure">${options.join('')}</select></label></p>
<div class="wide"><table id="summary">
<thead><tr><th scope="col">head</th>${head}<th scope="col">mean</th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table></div>`;
}

function renderLayer(map: AttentionMap, layer: LayerMap, index: number): string {
  const notes = layer.spans
    .filter(({ reason }) => reason !== undefined)
    .map(
      ({ first, end, state, reason }) =>
        `Row blocks ${first} to ${end - 1} ${state === 'dense' ? 'attended densely' : 'were not looked at'}: ${escape(reason ?? '')}.`,
    );
  return `<section aria-label="layer ${index}">
<h2>Layer ${index}</h2>
${notes.length === 0 ? '' : `<p class="soft">${notes.join(' ')}</p>`}
<div class="heads">
${layer.heads.map((head, h) => renderHead(map, head, index, h)).join('\n')}
</div>
</section>`;
}

function renderHead(map: AttentionMap, head: HeadMap, layer: number, h: number): string {
  const canvas = (kind: string, name: string): string =>
    `<div><canvas tabindex="0" role="img" data-layer="${layer}" data-head="${h}" data-kind="${kind}" aria-label="layer ${layer}, head ${h}: ${name}"></canvas><span>${name}</span></div>`;
  return `<figure id="head-${layer}-${h}">
<h3>Head ${h}</h3>
<div class="pair">${canvas('mask', 'blocks computed')}${canvas('mass', 'where the attention lies')}</div>
<figcaption>${caption(map, head)}</figcaption>
</figure>`;
}

function caption(map: AttentionMap, { chosen }: HeadMap): string {
  if (chosen === undefined) return 'Dense: all blocks were computed.';
  const { density, told, recall } = chosen;
  const others = told
    .slice(1)
    .map(
      (value, index) => `; ${escape(map.told[index + 1] ?? '')} ${Number(value.toPrecision(4))}`,
    );
  return (
    `density <b>${percent(density)} %</b>; recall estimated <b>${percent(told[0])} %</b>, true mean <b>${percent(recall.mean)} %</b>, ` +
    `least <b>${percent(recall.min)} %</b> in row block ${recall.minRow}${others.join('')}`
  );
}

function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? '–' : (100 * share).toFixed(1);
}

function meanOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

/** Data that the page's script reads. A `<` could end the element. */
function script(id: string, data: unknown): string {
  return `<script type="application/json" id="${id}">${JSON.stringify(data).replaceAll('<', '\\u003c')}</script>`;
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
