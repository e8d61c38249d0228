// Elements, made without markup: no text of a run can become a part of the page.

type Child = Node | string | number | null | false;

/** What an element is made with: attributes, and listeners by the names of their events. */
interface Properties {
  readonly [name: string]: string | number | boolean | null | undefined | ((event: Event) => void);
}

/** A new element. A property of null, false or undefined is left out; a function listens for the event of its name. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Properties = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === 'function') made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, String(value));
  }
  append(made, children);
  return made;
}

/** Puts new children into an element in place of its own. */
export function fill(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** As `fill`; whoever has the focus in it keeps it, on what stands for the same now. */
export function refill(parent: Element, ...children: readonly Child[]): void {
  const focused = parent.contains(document.activeElement) ? identityOf(document.activeElement!) : null;
  fill(parent, ...children);
  if (focused === null) return;
  const candidates = [...parent.querySelectorAll<HTMLElement>('a, button, input, [tabindex]')];
  candidates.find((candidate) => identityOf(candidate) === focused)?.focus();
}

const identityOf = (of: Element): string =>
  [of.tagName, of.getAttribute('href'), of.getAttribute('aria-label')].join(' ');

function append(parent: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child !== null && child !== false) parent.append(typeof child === 'number' ? String(child) : child);
  }
}

/** 12.3 %, or a dash where there is none. */
export const percent = (value: number | null): string => (value === null ? '–' : `${value.toFixed(1)} %`);
