import { describe, expect, it } from 'vitest';
import { Live } from './live.ts';

interface Settings {
  name: string;
  limit: number;
}
function setUp() {
  const file: Settings = { name: 'whitebox', limit: 1 };
  const live = new Live<Settings>(() => ({ ...file }), ['name']);
  const seen: string[] = [];
  return { file, live, seen };
}

describe('the live configuration', () => {
  it('is replaced by a reload, and each part switches after every part has prepared', () => {
    const { file, live, seen } = setUp();
    for (const part of ['a', 'b'])
      live.onChange(next => {
        seen.push(`${part} prepares ${next.limit} at ${live.current.limit}`);
        return () => seen.push(`${part} switches at ${live.current.limit}`);
      });
    file.limit = 2;
    expect(live.reload()).toEqual([]);
    expect(live.current.limit).toBe(2);
    expect(seen).toEqual(['a prepares 2 at 1', 'b prepares 2 at 1', 'a switches at 2', 'b switches at 2']);
  });

  it('stays as it was if a part can’t use the new value', () => {
    const { file, live, seen } = setUp();
    live.onChange(() => () => void seen.push('switched'));
    live.onChange(() => {
      throw new Error('unusable');
    });
    file.limit = 2;
    expect(() => live.reload()).toThrow('unusable');
    expect({ limit: live.current.limit, seen }).toEqual({ limit: 1, seen: [] });
  });

  it('keeps what only a restart changes, and names it', () => {
    const { file, live } = setUp();
    file.name = 'blackbox';
    file.limit = 3;
    expect({ differing: live.reload(), current: live.current }).toEqual({
      differing: ['name'],
      current: { name: 'whitebox', limit: 3 },
    });
  });
});
