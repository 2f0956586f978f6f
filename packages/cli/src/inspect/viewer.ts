/**
 * The script of the page, as text: it draws what the page holds and loads nothing. Pictures are drawn when they come into
 * view, because a large model has a thousand heads.
 */
export const viewerScript: string = String.raw`
'use strict';
const BLOCK = 128;
// Viridis (van der Walt and Smith, 2015; CC0): even steps to the eye, also without colour vision and in grey.
const RAMP = [[68,1,84],[72,36,117],[65,68,135],[53,95,141],[42,120,142],[33,145,140],[34,168,132],[68,191,112],[122,209,81],[189,223,38],[253,231,37]];
const facts = JSON.parse(document.getElementById('facts').textContent);
const layers = new Map();
const tip = document.getElementById('tip');
const lost = document.getElementById('lost');
const dark = matchMedia('(prefers-color-scheme: dark)');
const at = (i, j) => i * (i + 1) / 2 + j;

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
function headOf(layer, head) {
  if (!layers.has(layer)) layers.set(layer, JSON.parse(document.getElementById('layer-' + layer).textContent));
  const data = layers.get(layer)[head];
  if (!data.codes) {
    const raw = bytesOf(data.mass);
    data.codes = Uint16Array.from({ length: raw.length / 2 }, (_, n) => raw[2 * n] | raw[2 * n + 1] << 8);
    data.bits = bytesOf(data.mask);
  }
  return data;
}
function massAt(data, i, j) {
  const code = data.codes[at(i, j)];
  return code === 65535 ? NaN : code === 0 ? 0 : 10 ** (-9 + 9 * (code - 1) / 65533);
}
function computedAt(data, i, j) {
  const n = at(i, j);
  return (data.bits[n >> 3] >> (n & 7) & 1) === 1;
}
function stateOf(layer, i) {
  return facts.spans[layer].find((span) => i >= span.first && i < span.end);
}
function ramp(share) {
  const x = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const n = Math.min(RAMP.length - 2, Math.floor(x));
  return RAMP[n].map((low, c) => Math.round(low + (RAMP[n + 1][c] - low) * (x - n)));
}
function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((from) => parseInt(text.slice(from, from + 2), 16));
}
function draw(canvas) {
  const { layer, head, kind } = canvas.dataset;
  const data = headOf(+layer, +head);
  const size = facts.blocks;
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size);
  const paint = { chosen: colour('--computed'), dense: colour('--dense'), out: colour('--out'), unseen: colour('--unseen') };
  for (let i = 0; i < size; i++) {
    const state = stateOf(+layer, i).state;
    for (let j = 0; j <= i; j++) {
      const on = computedAt(data, i, j);
      let rgb;
      if (kind === 'mask') rgb = state === 'unseen' ? paint.unseen : !on ? paint.out : paint[state];
      else if (state === 'unseen') rgb = paint.unseen;
      else if (lost.checked && on) rgb = paint.out;
      else rgb = ramp(1 + Math.log10(massAt(data, i, j) || 1e-9) / facts.scale);
      image.data.set([...rgb, 255], 4 * (i * size + j));
    }
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}
function rowsText(block) {
  return block * BLOCK + '–' + (Math.min(facts.tokens, (block + 1) * BLOCK) - 1);
}
function describe(canvas, i, j) {
  const { layer, head } = canvas.dataset;
  const where = 'layer ' + layer + ', head ' + head + ': queries ' + rowsText(i) + ' (block ' + i + '), keys ' + rowsText(j) + ' (block ' + j + ')';
  if (j > i) return where + ' — in the future';
  const { state, reason } = stateOf(+layer, i);
  if (state === 'unseen') return where + ' — not looked at: ' + reason;
  const data = headOf(+layer, +head);
  const mass = massAt(data, i, j);
  const share = mass === 0 ? 'less than 1e-9' : mass >= 0.001 ? (100 * mass).toPrecision(3) + ' %' : mass.toExponential(2);
  const fate = state === 'dense' ? 'computed, all are: ' + reason : computedAt(data, i, j) ? 'computed' : 'left out';
  return where + ' — ' + share + ' of the attention, ' + fate;
}
function show(canvas, i, j, x, y) {
  tip.textContent = describe(canvas, i, j);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + 'px';
  tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 8 : y + 18) + 'px';
}
const clamp = (n) => Math.min(facts.blocks - 1, Math.max(0, n));
for (const canvas of document.querySelectorAll('canvas[data-layer]')) {
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.getBoundingClientRect();
    const i = clamp(Math.floor((event.clientY - box.top) / box.height * facts.blocks));
    const j = clamp(Math.floor((event.clientX - box.left) / box.width * facts.blocks));
    show(canvas, i, j, event.clientX, event.clientY);
  });
  canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
  canvas.addEventListener('blur', () => { tip.hidden = true; });
  const cursor = { i: facts.blocks - 1, j: 0 };
  const point = () => {
    const box = canvas.getBoundingClientRect();
    const cell = box.width / facts.blocks;
    show(canvas, cursor.i, cursor.j, box.left + (cursor.j + 0.5) * cell, box.top + (cursor.i + 0.5) * cell);
  };
  canvas.addEventListener('focus', point);
  canvas.addEventListener('keydown', (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    cursor.i = clamp(cursor.i + step[0]);
    cursor.j = clamp(cursor.j + step[1]);
    point();
  });
}
const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) { visible.delete(target); continue; }
    visible.add(target);
    draw(target);
  }
}, { rootMargin: '200px' });
for (const canvas of document.querySelectorAll('canvas[data-layer]')) watcher.observe(canvas);
const redraw = () => { for (const canvas of visible) draw(canvas); };
lost.addEventListener('change', redraw);
dark.addEventListener('change', redraw);

const scale = document.getElementById('scale');
scale.width = 256;
scale.height = 1;
const strip = new ImageData(256, 1);
for (let x = 0; x < 256; x++) strip.data.set([...ramp(x / 255), 255], 4 * x);
scale.getContext('2d').putImageData(strip, 0, 0);

const measure = document.getElementById('measure');
const choose = () => {
  for (const cell of document.querySelectorAll('#summary [data-values]')) {
    const value = JSON.parse(cell.dataset.values)[measure.value];
    (cell.querySelector('a') || cell).textContent = value === null ? '–' : (100 * value).toFixed(1);
    cell.style.setProperty('--share', value === null ? 0 : value);
  }
};
measure.addEventListener('change', choose);
choose();
`;
