/**
 * Colours of Okabe and Ito's palette, which every common form of colour blindness tells apart, darkened or lightened until
 * their text has a contrast of at least 4.5 with its ground. `right` and `wrong` are grounds of text in ink.
 */
export const palette = {
  light: {
    ground: '#fdfcfa',
    panel: '#f5f2ed',
    ink: '#1b1f23',
    muted: '#5a6169',
    rule: '#dcd7cf',
    layer: '#0b5c9e',
    ensemble: '#a84a06',
    train: '#6a6f76',
    purple: '#7d1d5c',
    green: '#00755a',
    right: '#5a90bd',
    wrong: '#cb8a57',
  },
  dark: {
    ground: '#15181b',
    panel: '#1d2125',
    ink: '#eae7e1',
    muted: '#a7adb4',
    rule: '#363c42',
    layer: '#74b8f2',
    ensemble: '#f5a55f',
    train: '#a2a8af',
    purple: '#d66fb8',
    green: '#3fc79a',
    right: '#3f6485',
    wrong: '#855e3d',
  },
} as const;

type ColourName = keyof typeof palette.light;

export const sansSerif = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/** The custom properties `--lw-ground`, `--lw-ink` and so on, for a rule of the page or of a chart. */
export function colourProperties(scheme: keyof typeof palette): string {
  return Object.entries(palette[scheme])
    .map(([name, value]) => `--lw-${name}: ${value};`)
    .join(' ');
}

/** The colours of a chart on the page it is part of, or, standalone, of an SVG file. */
const chartColours = `
.lw-chart { ${colourProperties('light')} }
@media screen and (prefers-color-scheme: dark) { .lw-chart { ${colourProperties('dark')} } }
`;

/** Each colour is given twice: programs that draw SVG without custom properties take the first. */
const fill = (name: ColourName) => `fill: ${palette.light[name]}; fill: var(--lw-${name});`;
const stroke = (name: ColourName) => `stroke: ${palette.light[name]}; stroke: var(--lw-${name});`;

/**
 * Lines that have no meaning of their own, told apart by colour, by dashes and by the mark that their chart gives them. The
 * first three are the ones that colour blindness keeps farthest apart.
 */
const series: readonly { colour: ColourName; dashes: string }[] = [
  { colour: 'layer', dashes: 'none' },
  { colour: 'ensemble', dashes: '7 4' },
  { colour: 'ink', dashes: '1 4.5' },
  { colour: 'purple', dashes: '9 4 1 4' },
  { colour: 'green', dashes: '4 4' },
  { colour: 'train', dashes: '14 4' },
];

/** How many there are; further ones repeat them. */
export const seriesCount = series.length;

const seriesRules = series
  .map(({ colour, dashes }, position) => {
    const name = `lw-series-${position + 1}`;
    return `.lw-chart .lw-line.${name} { ${stroke(colour)} stroke-dasharray: ${dashes}; }
.lw-chart .lw-range.${name} { ${stroke(colour)} }
.lw-chart .lw-mark.${name}, .lw-chart text.${name} { ${fill(colour)} }
`;
  })
  .join('');

export const chartRules = `
.lw-chart { font-family: ${sansSerif}; font-variant-numeric: tabular-nums; }
.lw-chart text { ${fill('muted')} }
.lw-chart .lw-ground { ${fill('ground')} }
.lw-chart .lw-panel { ${fill('panel')} }
.lw-chart .lw-heading { ${fill('ink')} font-weight: 600; }
.lw-chart .lw-grid { ${stroke('rule')} stroke-width: 1; }
.lw-chart .lw-rate-drop { ${stroke('muted')} stroke-width: 1; stroke-dasharray: 1 3; }
.lw-chart .lw-line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
.lw-chart .lw-line.lw-layer, .lw-chart .lw-line.lw-test { ${stroke('layer')} }
.lw-chart .lw-line.lw-ensemble { ${stroke('ensemble')} stroke-dasharray: 7 4; }
.lw-chart .lw-line.lw-train { ${stroke('train')} stroke-width: 1.5; }
.lw-chart .lw-dot { ${stroke('ground')} stroke-width: 1.5; }
.lw-chart .lw-dot.lw-layer, .lw-chart .lw-dot.lw-test { ${fill('layer')} }
.lw-chart .lw-dot.lw-ensemble { ${fill('ensemble')} }
.lw-chart .lw-dot.lw-train { ${fill('train')} }
.lw-chart .lw-dot.lw-open { ${fill('ground')} stroke-width: 2; }
.lw-chart .lw-dot.lw-open.lw-layer { ${stroke('layer')} }
.lw-chart .lw-dot.lw-open.lw-ensemble { ${stroke('ensemble')} }
.lw-chart text.lw-value { ${stroke('ground')} stroke-width: 3.5; stroke-linejoin: round; paint-order: stroke; }
.lw-chart text.lw-layer, .lw-chart text.lw-test { ${fill('layer')} }
.lw-chart text.lw-ensemble { ${fill('ensemble')} }
.lw-chart text.lw-train { ${fill('train')} }
.lw-chart .lw-mark { ${stroke('ground')} stroke-width: 1; }
.lw-chart .lw-range { fill: none; stroke-width: 1.25; opacity: .75; }
${seriesRules}.lw-chart .lw-bar { ${fill('layer')} }
.lw-chart .lw-mean { ${stroke('muted')} stroke-width: 1; stroke-dasharray: 1 3; }
.lw-chart .lw-right { ${fill('right')} }
.lw-chart .lw-wrong { ${fill('wrong')} }
.lw-chart text.lw-name, .lw-chart text.lw-count { ${fill('ink')} }
.lw-chart .lw-strong { font-weight: 650; }
.lw-chart .lw-start { text-anchor: start; }
.lw-chart .lw-middle { text-anchor: middle; }
.lw-chart .lw-end { text-anchor: end; }
`;

/** What a page needs once for the charts that it holds inline. */
export const chartStyles: string = chartColours + chartRules;
