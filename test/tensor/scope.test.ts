import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { keep, memoryStats, ones, scope, type Tensor, TensorError, tensor, zeros } from '../../lib/tensor/index.js';

const live = (): number => memoryStats().liveTensors;

function errorOf(body: () => unknown): TensorError {
  try {
    body();
  } catch (error) {
    expect(error).toBeInstanceOf(TensorError);
    return error as TensorError;
  }
  throw new Error('expected a TensorError, nothing was thrown');
}

describe('scope', () => {
  it('frees what was made inside and gives back its result', () => {
    const before = live();
    const sum = scope(() => {
      const total = ones([3]).add(1).sum();
      expect(live()).toBe(before + 3);
      return total.item();
    });
    expect(sum).toBe(6);
    expect(live()).toBe(before);
  });

  it.each([
    'inner => ({ inner })',
    'inner => new Map([[1, inner]])',
    'inner => new Set([inner])',
    'inner => [inner]',
    'inner => ({ deep: new Map([[1, new Set([[inner]])]]) })',
  ])('lets tensors live that are returned in what another realm made: %s', (text) => {
    const before = live();
    const hold = runInNewContext(text) as (inner: Tensor) => unknown;
    let held: Tensor | undefined;
    const result = scope(() => {
      held = ones([2]);
      return hold(held.add(1)) && hold(held);
    });
    expect(held!.isDisposed).toBe(false);
    expect(live()).toBe(before + 1);
    held!.dispose();
    expect(result).toBeTypeOf('object');
  });

  it('does not look into objects that are not plain', () => {
    class Holder {
      constructor(readonly inner: Tensor) {}
    }
    expect(scope(() => new Holder(ones([1]))).inner.isDisposed).toBe(true);
    const above = Object.create(null) as object;
    const below = scope(() => Object.assign(Object.create(above) as { inner?: Tensor }, { inner: ones([1]) }));
    expect(below.inner.isDisposed).toBe(true);
  });

  it('lets returned tensors live: alone, in arrays, plain objects, maps, sets and what these hold', () => {
    const before = live();
    const shared = Object.create(null) as Record<string, Tensor>;
    const result = scope(() => {
      ones([7]);
      shared.bare = ones([1]);
      return {
        list: [ones([1]), [ones([2])]],
        map: new Map([['a', { deep: ones([3]) }]]),
        set: new Set([ones([4])]),
        bare: shared,
        text: 'text',
        nothing: null,
      };
    });
    const tensors = [
      result.list[0] as Tensor,
      (result.list[1] as Tensor[])[0]!,
      result.map.get('a')!.deep,
      [...result.set][0]!,
      result.bare.bare!,
    ];
    expect(live()).toBe(before + 5);
    expect(tensors.map((t) => t.numel)).toEqual([1, 2, 3, 4, 1]);
    for (const each of tensors) each.dispose();
    expect(live()).toBe(before);
  });

  it('survives a result that contains itself', () => {
    const result = scope(() => {
      const ring: { self?: unknown; tensor: Tensor } = { tensor: ones([1]) };
      ring.self = ring;
      return ring;
    });
    expect(result.tensor.item()).toBe(1);
    result.tensor.dispose();
  });

  it('does not look into class instances: their tensors are freed unless kept', () => {
    class Holder {
      constructor(readonly tensor: Tensor) {}
    }
    const freed = scope(() => new Holder(ones([1])));
    expect(freed.tensor.isDisposed).toBe(true);
    const held = scope(() => new Holder(keep(ones([1]))));
    expect(held.tensor.isDisposed).toBe(false);
    held.tensor.dispose();
  });

  it('gives what an inner scope returns to the outer one', () => {
    const before = live();
    scope(() => {
      const inner = scope(() => {
        ones([1]);
        return ones([2]);
      });
      expect(inner.isDisposed).toBe(false);
      expect(live()).toBe(before + 1);
    });
    expect(live()).toBe(before);
  });

  it('does not free a tensor of an outer scope that an inner one returns', () => {
    scope(() => {
      const mine = ones([1]);
      expect(scope(() => mine)).toBe(mine);
      expect(mine.isDisposed).toBe(false);
    });
    const outside = ones([1]);
    scope(() => scope(() => outside));
    expect(outside.isDisposed).toBe(false);
    outside.dispose();
  });

  it('frees everything when its body throws, in nested scopes too, and the next scope works', () => {
    const before = live();
    const failure = new Error('mine');
    const run = () =>
      scope(() => {
        ones([1]);
        scope(() => {
          ones([2]);
          throw failure;
        });
      });
    expect(run).toThrow(failure);
    expect(live()).toBe(before);
    expect(scope(() => ones([1]).add(1).item())).toBe(2);
    expect(live()).toBe(before);
  });

  it('frees everything when an operator fails in it', () => {
    const before = live();
    expect(() => scope(() => ones([2]).add(ones([3])))).toThrow(TensorError);
    expect(live()).toBe(before);
  });

  it('keeps a kept tensor, also when the body throws afterwards', () => {
    const holder: { kept?: Tensor } = {};
    const run = () =>
      scope(() => {
        holder.kept = keep(ones([1]));
        throw new Error('mine');
      });
    expect(run).toThrow('mine');
    expect(holder.kept!.item()).toBe(1);
    holder.kept!.dispose();
  });

  it('refuses a promise and frees what was made before it', () => {
    const before = live();
    const error = errorOf(() => scope(async () => ones([1])));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toContain('promise');
    expect(live()).toBe(before);
  });

  it('takes no harm from a tensor disposed inside, or disposed and returned', () => {
    const before = live();
    const gone = scope(() => {
      const t = ones([1]);
      t.dispose();
      return t;
    });
    expect(gone.isDisposed).toBe(true);
    expect(live()).toBe(before);
  });

  it('frees views and the storage they share when the last of them goes', () => {
    const before = memoryStats();
    const view = scope(() => ones([4, 1000]).select(0, 2));
    expect(memoryStats().cpuBytes - before.cpuBytes).toBe(4 * 1000 * 4);
    expect(view.byteLength).toBe(4000);
    view.dispose();
    expect(memoryStats()).toEqual(before);
  });
});

describe('dispose', () => {
  it('may be called twice', () => {
    const before = live();
    const t = ones([1]);
    t.dispose();
    t.dispose();
    expect(t.isDisposed).toBe(true);
    expect(live()).toBe(before);
  });

  it('does not free a later tensor that got the same handle', () => {
    const first = ones([1]);
    first.dispose();
    const second = ones([1]);
    first.dispose();
    expect(second.item()).toBe(1);
    second.dispose();
  });

  it('is called by using', () => {
    const before = live();
    {
      using t = ones([1]);
      expect(t.item()).toBe(1);
      expect(live()).toBe(before + 1);
    }
    expect(live()).toBe(before);
  });

  it.each<[string, (t: Tensor) => unknown]>([
    ['add', (t) => t.add(1)],
    ['add', (t) => zeros([2]).add(t)],
    ['linear', (t) => zeros([1, 2]).linear(t, null)],
    ['linear', (t) => zeros([1, 2]).linear(zeros([3, 2]), t)],
    ['index', (t) => zeros([2]).index([t])],
    ['toTypedArray', (t) => t.toTypedArray()],
    ['item', (t) => t.item()],
    ['backward', (t) => t.backward()],
    ['shape', (t) => t.shape],
    ['dtype', (t) => t.dtype],
    ['device', (t) => t.device],
    ['byteLength', (t) => keep(t)],
    ['requiresGrad', (t) => t.requiresGrad],
    ['setRequiresGrad', (t) => (t.requiresGrad = true)],
    ['grad', (t) => t.grad],
    ['clone', (t) => t.clone()],
    ['add_', (t) => t.add_(1)],
  ])('makes every use a typed error afterwards: %s', (_operator, use) => {
    scope(() => {
      const t = tensor([1, 2]);
      expect(t.shape).toEqual([2]);
      t.dispose();
      const error = errorOf(() => use(t));
      expect(error.code).toBe('TENSOR_DISPOSED');
      expect(error.message).toContain('disposed');
      expect(error.stack).toContain('scope.test');
      expect(String(t)).toBe('Tensor(disposed)');
    });
  });
});

describe('a result that is hard to search', () => {
  it('frees everything when reading it throws', () => {
    const before = memoryStats();
    const hostile = {
      get tensor(): never {
        ones([4]);
        throw new Error('mine');
      },
    };
    expect(() =>
      scope(() => {
        ones([4]);
        return { hostile, after: ones([2]) };
      }),
    ).toThrow('mine');
    expect(memoryStats()).toEqual(before);
    // The scope around it is in force again.
    scope(() => {
      ones([2]);
    });
    expect(memoryStats()).toEqual(before);
  });

  it('may be nested a hundred thousand deep', () => {
    const before = memoryStats().liveTensors;
    scope(() => {
      const deep = scope(() => {
        let nested: unknown = ones([3]);
        for (let i = 0; i < 100_000; i++) nested = [nested];
        return nested;
      });
      let inner = deep;
      while (Array.isArray(inner)) inner = inner[0];
      expect((inner as Tensor).toArray()).toEqual([1, 1, 1]);
    });
    expect(memoryStats().liveTensors).toBe(before);
  });
});
