import { Markup, markup } from './markup.js';

/** A chart laid out twice, for the page's width and for a telephone's; the style sheet shows one of them. */
export function responsive(chart: (width: number, size: 'wide' | 'narrow') => string): Markup {
  return markup`<div class="wide">${new Markup(chart(800, 'wide'))}</div>
<div class="narrow">${new Markup(chart(344, 'narrow'))}</div>`;
}
