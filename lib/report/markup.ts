/** Text that is HTML or SVG already. */
export class Markup {
  constructor(readonly source: string) {}

  toString(): string {
    return this.source;
  }
}

export type MarkupPart = Markup | string | number | false | null | undefined | readonly MarkupPart[];

/** A template of HTML or SVG: every part that is not itself markup is escaped, so that text from a file stays text. */
export function markup(strings: TemplateStringsArray, ...parts: MarkupPart[]): Markup {
  return new Markup(strings.reduce((source, string, position) => source + renderPart(parts[position - 1]) + string));
}

function renderPart(part: MarkupPart): string {
  if (part === undefined || part === null || part === false) return '';
  if (part instanceof Markup) return part.source;
  if (Array.isArray(part)) return part.map(renderPart).join('');
  return escapeText(String(part));
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escapeText(text: string): string {
  return (
    text
      // What XML 1.0 cannot hold at all.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
      .replace(/[&<>"']/g, (character) => entities[character] ?? character)
  );
}
