// Values of flags: each parser refuses what it cannot be, with what was expected.
import { InvalidArgumentError } from 'commander';

export function integer(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || !Number.isSafeInteger(value)) {
      throw new InvalidArgumentError(`Expected an integer of at least ${minimum}, got "${text}".`);
    }
    return value;
  };
}

export function positiveNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0) || !Number.isFinite(value)) {
    throw new InvalidArgumentError(`Expected a number above 0, got "${text}".`);
  }
  return value;
}

export function device(text: string): string {
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(text)) {
    throw new InvalidArgumentError(`Expected auto, cpu, cuda or cuda:N, got "${text}".`);
  }
  return text;
}

const CACHE_PLACES = ['device', 'host', 'disk'];

/** Bytes by place, of GiB such as device=8,host=16,disk=100. */
export function cacheBudget(text: string): Record<string, number> | 'none' {
  if (text === 'none') return text;
  const refuse = (): never => {
    throw new InvalidArgumentError(`Expected none, or GiB such as ${CACHE_PLACES.join('=8,')}=8, got "${text}".`);
  };
  const budget = new Map<string, number>();
  for (const part of text.split(',')) {
    const [, place, gib] = /^(\w+)=(\d+(?:\.\d+)?)$/.exec(part.trim()) ?? refuse();
    if (!CACHE_PLACES.includes(place!) || budget.has(place!)) refuse();
    budget.set(place!, Number(gib) * 2 ** 30);
  }
  return Object.fromEntries(budget);
}
