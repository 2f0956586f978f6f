/**
 * The style sheet of reports, light and dark, on screen and on paper. Colours of data: Okabe and Ito's, apart also
 * without colour vision.
 */
export const reportStyle: string = `
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa;
  --shade: #0072b2; --warn: #b35900; --accent: #0a5ca8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0f1419; --ink: #e6e9ed; --soft: #9aa5b1; --line: #313a44; --panel: #171d24;
    --shade: #56b4e9; --warn: #f0a04b; --accent: #7cc0ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 1400px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .25rem; scroll-margin-top: 1rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; } h4 { font-size: .95rem; margin: 1rem 0 .25rem; }
p, li { max-width: 80ch; } p { margin: .4rem 0; } a { color: var(--accent); } .soft, figcaption { color: var(--soft); }
.warn { border-left: 3px solid var(--warn); padding-left: .6rem; }
nav p { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; max-width: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; } dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .75rem 0; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .2rem .5rem; text-align: right; border: 1px solid var(--line); font-weight: normal; white-space: nowrap; vertical-align: top; }
thead th { color: var(--soft); white-space: normal; vertical-align: bottom; } th[scope=row], th[scope=rowgroup], .words { text-align: left; }
td.words { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
td[style] { background: color-mix(in srgb, var(--shade) calc(var(--share) * 40%), transparent); }
td small { display: block; color: var(--soft); font-size: .78rem; }
figure { margin: 1rem 0; padding: .75rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; }
figure svg { display: block; max-width: 100%; height: auto; } figcaption { font-size: .85rem; margin-top: .5rem; max-width: 80ch; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); }
pre { margin: .4rem 0; padding: .6rem; background: var(--panel); border: 1px solid var(--line); border-radius: 4px; font-size: .82rem;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --soft: #444444; --line: #999999; --panel: #ffffff; --shade: #0072b2; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav, figure details { display: none; }
  .wide, figure { overflow: visible; } figure, tr { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  td[style] { print-color-adjust: exact; } table { font-size: 8pt; }
}
`;
