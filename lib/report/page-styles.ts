import { chartRules, colourProperties, sansSerif } from './chart-styles.js';

const serif = "ui-serif, 'Iowan Old Style', Charter, 'Source Serif 4', Georgia, 'Times New Roman', serif";

/** The style sheet of `report.html`. */
export const pageStyles = `
:root { color-scheme: light dark; ${colourProperties('light')} }
@media screen and (prefers-color-scheme: dark) { :root { ${colourProperties('dark')} } }
${chartRules}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--lw-ground); color: var(--lw-ink); font: 1rem/1.55 ${sansSerif}; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main, footer { max-width: 58rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
main { padding-top: clamp(1.75rem, 5vw, 4rem); }
h1, h2 { font-family: ${serif}; font-weight: 600; text-wrap: balance; line-height: 1.12; }
h1 { font-size: clamp(2.1rem, 1.4rem + 3vw, 3.4rem); letter-spacing: -.015em; margin: 0; }
h2 { font-size: 1.55rem; margin: 0 0 .4rem; }
h3 { font-size: .8rem; font-weight: 650; letter-spacing: .02em; margin: 0; }
p { margin: 0; }
.kicker { font-size: .85rem; color: var(--lw-muted); margin-bottom: .7rem; }
.deck { font-family: ${serif}; font-size: clamp(1.1rem, 1rem + .5vw, 1.3rem); line-height: 1.48; max-width: 40em; margin-top: 1.1rem; text-wrap: pretty; }
.lead { color: var(--lw-muted); max-width: 44em; margin-bottom: 1.3rem; text-wrap: pretty; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); gap: 0 1.75rem; margin: 2rem 0 0; }
.figures > div { display: flex; flex-direction: column-reverse; justify-content: flex-end; border-top: 2px solid var(--lw-ink); padding: .6rem 0 1.1rem; }
.figures dt { font-size: .85rem; line-height: 1.35; color: var(--lw-muted); }
.figures dd { margin: 0; font-size: clamp(1.75rem, 1.5rem + 1vw, 2.3rem); font-weight: 600; letter-spacing: -.02em; line-height: 1.2; white-space: nowrap; }
.figures .layer dd { color: var(--lw-layer); }
.figures .ensemble dd { color: var(--lw-ensemble); }
.unit { font-size: .55em; font-weight: 500; letter-spacing: 0; margin-left: .12em; }
.notes { border-left: 3px solid var(--lw-rule); padding: .1rem 0 .1rem 1rem; margin: .9rem 0 0; max-width: 44em; }
.notes.unfinished { border-color: var(--lw-ensemble); margin-top: 1.4rem; }
.notes p + p { margin-top: .45rem; }
main > section { margin-top: clamp(2.75rem, 6vw, 4.25rem); }
figure { margin: 0; }
figure + figure { margin-top: 2rem; }
figcaption { font-size: .9rem; font-weight: 600; margin-bottom: .5rem; }
figcaption span { font-weight: 400; color: var(--lw-muted); }
.lw-chart { display: block; width: 100%; height: auto; }
.narrow { display: none; }
.scroll { overflow-x: auto; background:
    linear-gradient(to right, var(--lw-ground) 30%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--lw-ground) 30%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--lw-rule), transparent) left center / .8rem calc(100% - 4px) no-repeat scroll,
    linear-gradient(to left, var(--lw-rule), transparent) right center / .8rem calc(100% - 4px) no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--lw-layer); outline-offset: 3px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.35; }
th, td { padding: .5rem 0 .5rem 1.1rem; text-align: right; white-space: nowrap; font-weight: 400; }
tr > th[scope='row'], thead tr:first-child > th:first-child { text-align: left; padding-left: 0; padding-right: .4rem; }
thead th { vertical-align: bottom; font-size: .8rem; color: var(--lw-muted); }
thead th[scope='colgroup'] { padding-bottom: .25rem; }
thead th[scope='colgroup'] { text-align: center; background: linear-gradient(var(--lw-rule), var(--lw-rule)) right bottom / calc(100% - 1.1rem) 1px no-repeat; }
thead tr:first-child th { color: var(--lw-ink); font-weight: 600; }
thead tr:last-child th { padding-top: .3rem; }
thead th[rowspan] { border-bottom: 1px solid var(--lw-ink); }
thead tr:last-child th { border-bottom: 1px solid var(--lw-ink); }
th.text, td.text { text-align: left; }
.wrapping th, .wrapping td.text { white-space: normal; overflow-wrap: break-word; }
tbody tr + tr > * { border-top: 1px solid var(--lw-rule); }
tbody th { font-weight: 600; }
tbody th, thead tr:first-child > th:first-child, tfoot th { position: sticky; left: 0; background: var(--lw-ground); }
tbody tr:last-child td.layer, tbody tr:last-child td.ensemble { font-weight: 650; }
tfoot tr > * { border-top: 1px solid var(--lw-ink); color: var(--lw-muted); }
td.layer { color: var(--lw-layer); }
td.ensemble { color: var(--lw-ensemble); }
.fine { font-size: .85rem; color: var(--lw-muted); margin-top: .8rem; max-width: 46em; text-wrap: pretty; }
.groups { columns: 2 20rem; column-gap: 3rem; }
.group { break-inside: avoid; border-top: 2px solid var(--lw-ink); padding: .5rem 0 1.5rem; }
.group h3 { font-size: .95rem; margin-bottom: .15rem; }
.group h3::first-letter { text-transform: uppercase; }
dl { margin: 0; }
.group dl > div { display: grid; grid-template-columns: minmax(6.5rem, 2fr) 3fr; gap: 0 1rem; padding: .3rem 0; font-size: .9rem; }
.group dl > div + div { border-top: 1px solid var(--lw-rule); }
.group dt { color: var(--lw-muted); }
.group dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.group dl > .nested { display: block; }
.group .nested > dd { border-left: 1px solid var(--lw-rule); padding-left: .9rem; margin: .15rem 0; }
.group ol { margin: .2rem 0 0; padding-left: 1.3rem; font-size: .9rem; }
.group li { padding: .15rem 0; }
.group li::marker { color: var(--lw-muted); }
summary { cursor: pointer; }
details[open] summary { margin-bottom: .3rem; }
footer { margin-top: 2rem; padding-bottom: 2.5rem; font-size: .85rem; color: var(--lw-muted); }
@media screen and (max-width: 50rem) { .figures { grid-template-columns: 1fr 1fr; gap: 0 1.25rem; } }
@media (max-width: 42rem) {
  .wide { display: none; }
  .narrow { display: block; max-width: 30rem; }
}
@media print {
  .wide { display: block; }
  .narrow { display: none; }
  body { font-size: 10.5pt; }
  main, footer { max-width: none; padding: 0; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding-left: .6rem; }
  figure, tr, .figures, .notes, .group { break-inside: avoid; }
  h2, h3, .lead, figcaption { break-after: avoid; }
  .lw-chart, td, dd { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
