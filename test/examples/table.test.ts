import { mkdtempSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import {
  agreed,
  measured,
  percent,
  published,
  unchecked,
  withEnsemble,
  writeTable,
} from '../../examples/support/table.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-table-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('figures', () => {
  it('are printed to one decimal, with their mark where the paper could not be checked', () => {
    expect(percent(published(67.6))).toBe('67.6');
    expect(percent(unchecked(70.1))).toBe('70.1 u');
    expect(percent(null)).toBe('-');
    expect(withEnsemble(published(67.6), unchecked(70.1))).toBe('67.6 (70.1 u)');
    expect(withEnsemble(measured([50.04]), null)).toBe('50.0 (-)');
  });

  it('of several seeds are their mean and range', () => {
    expect(measured([90, 91, 95])).toEqual({ mean: 92, low: 90, high: 95 });
    expect(percent(measured([90, 91, 95]))).toBe('92.0 [90.0, 95.0]');
    expect(percent(measured([90, 90]))).toBe('90.0');
  });

  it('tell of what their runs do not share', () => {
    const values = (...all: string[]) => all.map((value, i) => ({ name: `k${i + 1}`, value }));
    expect(agreed(values('bf16', 'bf16'))).toBe('bf16');
    expect(agreed(values('bf16', 'fp32', 'bf16'))).toBe('bf16 (k1, k3); fp32 (k2)');
  });

  it('are missing where one seed has none', () => {
    expect(measured([90, null])).toBeNull();
    expect(measured([])).toBeNull();
  });
});

describe('writeTable', () => {
  const table = {
    title: 'A table',
    conditions: { 'data set': 'CIFAR-10 (JPEG 75)', seed: '1' },
    columns: ['network', 'paper', 'here'],
    notes: ['A note.'],
    figures: [{ here: 1 }],
    charts: { 'a.svg': '<svg/>' },
  };
  const UNCHECKED = 'u: of the paper, but could not be checked against its final text.';

  it('writes Markdown, JSON and charts', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {});
    const out = join(folder, 'checked');
    await writeTable(out, { ...table, rows: [['k = 1', '88.3', '36.5']] });
    log.mockRestore();
    const markdown = readFileSync(join(out, 'table.md'), 'utf8');
    expect(markdown).toContain('- data set: CIFAR-10 (JPEG 75)\n- seed: 1\n');
    expect(markdown).toContain('| network | paper | here |\n| --- | --- | --- |\n| k = 1 | 88.3 | 36.5 |\n');
    expect(markdown).toContain('![A table](a.svg)');
    expect(markdown).not.toContain(UNCHECKED);
    expect(readFileSync(join(out, 'a.svg'), 'utf8')).toBe('<svg/>');
    expect(JSON.parse(readFileSync(join(out, 'table.json'), 'utf8'))).toEqual({
      title: 'A table',
      conditions: table.conditions,
      notes: ['A note.'],
      figures: [{ here: 1 }],
    });
  });

  it('explains the mark of unchecked figures wherever one is printed', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {});
    const out = join(folder, 'unchecked');
    await writeTable(out, { ...table, rows: [['VGG-11', '67.6 (70.1 u)', '14.7']] });
    log.mockRestore();
    expect(readFileSync(join(out, 'table.md'), 'utf8')).toContain(UNCHECKED);
  });
});
