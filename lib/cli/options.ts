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
