import { pageStyles } from '../../report/index.js';

/** The report's style, and what a page has that is used. */
export const serviceStyles = `${pageStyles}
a { color: var(--lw-layer); text-underline-offset: .15em; }
.button, button { font: inherit; font-weight: 600; color: var(--lw-ground); background: var(--lw-ink); border: 0; border-radius: .4rem; padding: .5rem .95rem; cursor: pointer; text-decoration: none; display: inline-block; }
button:hover, .button:hover { background: var(--lw-layer); }
:is(a, button, .button, input, select, .drop):focus-visible, .drop:focus-within { outline: 2px solid var(--lw-layer); outline-offset: 2px; }
.actions { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.4rem 0; }
.subtitle { display: block; font-weight: 400; color: var(--lw-muted); font-size: .85em; }
.state { display: inline-flex; align-items: center; gap: .4em; }
.state::before { content: ''; width: .6em; height: .6em; border-radius: 50%; background: var(--lw-muted); }
.state.running::before { background: var(--lw-layer); }
.state.finished::before { background: var(--lw-green); }
.state:is(.failed, .cancelled, .interrupted)::before { background: var(--lw-ensemble); }
@media (prefers-reduced-motion: no-preference) { .state.running::before { animation: breathe 1.6s ease-in-out infinite alternate; } }
@keyframes breathe { to { opacity: .25; } }
progress { width: 100%; min-width: 6rem; height: .45rem; border: 0; border-radius: 1rem; overflow: hidden; background: var(--lw-rule); appearance: none; }
progress::-webkit-progress-bar { background: var(--lw-rule); }
progress::-webkit-progress-value { background: var(--lw-layer); transition: width .3s; }
progress::-moz-progress-bar { background: var(--lw-layer); }
td.bar { min-width: 7rem; }
.runs th[scope='row'] { min-width: 8rem; max-width: 45vw; white-space: normal; overflow-wrap: anywhere; }
form { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1.1rem 1.6rem; margin-top: 1.6rem; align-items: end; }
form button { justify-self: start; }
fieldset { display: contents; }
label { display: grid; gap: .35rem; font-size: .85rem; color: var(--lw-muted); }
input:not([type='checkbox'], [type='file']), select { font: inherit; color: var(--lw-ink); background: var(--lw-panel); border: 1px solid var(--lw-rule); border-radius: .4rem; padding: .5rem .6rem; width: 100%; min-height: 2.6rem; }
input[type='checkbox'] { width: 1.15rem; height: 1.15rem; accent-color: var(--lw-layer); }
input:user-invalid { border-color: var(--lw-ensemble); }
.problem:not(:empty) { border-left: 3px solid var(--lw-ensemble); padding: .1rem 0 .1rem 1rem; margin: .9rem 0; grid-column: 1 / -1; }
.problem:empty { display: none; }
.charts figure { margin-top: 2rem; }
.run > section { margin-top: 3rem; }
.drop { min-width: 0; overflow-wrap: anywhere; border: 2px dashed var(--lw-rule); border-radius: .6rem; padding: 1.4rem; background: var(--lw-panel); font-size: 1rem; cursor: pointer; }
.drop input { font: inherit; color: var(--lw-ink); min-width: 0; width: 100%; }
.answer { margin: 1rem 0 2.4rem; }
.uploaded { max-width: min(16rem, 100%); max-height: 16rem; border-radius: .4rem; }
.answer td { vertical-align: top; }
meter { display: block; width: 6rem; height: .5rem; margin: .2rem 0; }
.test-images { list-style: none; padding: 0; margin: 1rem 0 3rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1.3rem; }
.test-images img { image-rendering: pixelated; border-radius: .3rem; }
.test-images p { font-size: .85rem; }
.marks { display: flex; gap: .18rem; margin-top: .25rem; }
.marks span { width: 1.15rem; text-align: center; border-radius: .2rem; color: var(--lw-ink); }
.marks .right { background: var(--lw-right); }
.marks .wrong { background: var(--lw-wrong); }
`;
