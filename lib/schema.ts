// Parts that the schemas of all files and options share.
import { inspect } from 'node:util';
import { z } from 'zod';

/** A whole number from 1. */
export const upTo = (most: number) => z.int().min(1).max(most);

/** What a schema found wrong with a value: the name of the part, what was expected, what came. */
export function describeIssue(issue: z.core.$ZodIssue, value: unknown): string {
  const at = (path: PropertyKey[]): string => path.map(String).join('.');
  const got = issue.path.reduce<unknown>(
    (part, key) => (typeof part === 'object' && part !== null ? Reflect.get(part, key) : undefined),
    value,
  );
  if (issue.code === 'unrecognized_keys') {
    // Only the known keys that are there.
    const known = Object.keys(got as object).filter((key) => !issue.keys.includes(key));
    const unknown = issue.keys.map((key) => at([...issue.path, key])).join(', ');
    return `unknown key ${unknown}: expected one of ${known.join(', ')}`;
  }
  const expected = issue.message
    .replace(
      /^Too (?:big|small): expected \w+ to (?:be|have) (<=|<|>=|>)/,
      (_, sign: string) => `expected ${BOUNDS[sign]} `,
    )
    .replace(/ 1 (\w+)s$/, ' 1 $1')
    .replace(/^Invalid (input|option): /, '')
    .replace(/^Invalid discriminator value. Expected /, 'expected one of ')
    .replace(/, received .*$/, '');
  const name = at(issue.path) || 'the whole';
  return `${name}: ${expected.replace(/, got .*$/, '')}, got ${shown(got)}`;
}

const BOUNDS: Readonly<Record<string, string>> = {
  '<=': 'at most',
  '<': 'less than',
  '>=': 'at least',
  '>': 'more than',
};

/** Levels of a recipe's values, those in options of one's own among them: what looks at one calls itself at each level. */
const DEEPEST = 16;

/** What no recipe, and no options in one, may have, in words; null where there is none. */
export function unfitPart(value: unknown, path: readonly string[] = []): string | null {
  if (typeof value !== 'object' || value === null) return null;
  if (path.length === DEEPEST) return `${path[0]}: expected values within at most ${DEEPEST} others`;
  for (const [key, member] of Object.entries(value)) {
    const inside = [...path, key];
    // As a key of an object it would be the object's prototype.
    if (key === '__proto__') return `unknown key ${inside.join('.')}`;
    const problem = unfitPart(member, inside);
    if (problem !== null) return problem;
  }
  return null;
}

const SHOWN_CHARACTERS = 200;

/** A value of any kind, for a message. */
export function shown(value: unknown): string {
  if (typeof value === 'number') return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
  }
  if (text === undefined) return 'nothing';
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text;
}

/** Whether a time is the sum of its parts, or more, to rounding. */
export function isAtLeastSum(whole: number, parts: readonly number[]): boolean {
  const sum = parts.reduce((total, part) => total + part, 0);
  return sum <= whole * (1 + 1e-9) + 1e-6;
}
