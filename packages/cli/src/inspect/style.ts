/** The style sheet of the page, light and dark. Colours of masks: Okabe and Ito's, apart also without colour vision. */
export const pageStyle = `
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa;
  --computed: #0072b2; --dense: #cc79a7; --out: #e4e7eb; --unseen: #b8a16a; --accent: #0a5ca8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0f1419; --ink: #e6e9ed; --soft: #9aa5b1; --line: #313a44; --panel: #171d24;
    --computed: #56b4e9; --dense: #d58fb6; --out: #2b333c; --unseen: #7d6c3f; --accent: #7cc0ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 1400px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .25rem; } h3 { font-size: .95rem; margin: 0; }
p { max-width: 80ch; margin: .4rem 0; } a { color: var(--accent); } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; position: sticky; top: 0; z-index: 1; padding: .5rem 0;
  background: var(--paper); border-bottom: 1px solid var(--line); }
.key { display: inline-flex; gap: .35rem; align-items: center; } .key i { width: .9rem; height: .9rem; border: 1px solid var(--line); }
#scale { width: 130px; height: .9rem; border: 1px solid var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .5rem; text-align: right; border: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--soft); } tbody th { text-align: left; white-space: nowrap; }
td[data-values] { background: color-mix(in srgb, var(--computed) calc(var(--share, 0) * 45%), transparent); }
td a { color: inherit; text-decoration: none; } td a:hover { text-decoration: underline; }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 1rem; margin-top: .5rem; }
figure { margin: 0; padding: .75rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; scroll-margin-top: 4rem; }
figure:target { outline: 2px solid var(--accent); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; margin: .5rem 0; }
.pair canvas { width: 100%; aspect-ratio: 1; image-rendering: pixelated; border: 1px solid var(--line); cursor: crosshair; background: var(--paper); }
.pair span, figcaption { font-size: .82rem; color: var(--soft); } figcaption b { color: var(--ink); font-weight: 600; }
#tip { position: fixed; z-index: 2; max-width: 420px; padding: .35rem .6rem; background: var(--ink); color: var(--paper); border-radius: 4px;
  font-size: .85rem; pointer-events: none; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
`;
