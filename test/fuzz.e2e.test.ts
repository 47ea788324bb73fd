import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const fuzz = (env: Record<string, string>) =>
  spawnSync(process.execPath, ['test/fuzz/main.ts'], { encoding: 'utf8', env: { PATH: process.env.PATH, ...env } });

describe('make fuzz', () => {
  it('finds nothing that is let in and should not be, and nothing that ends the agent', { timeout: 120_000 }, () => {
    const { status, stdout, stderr } = fuzz({ CASES: '12000', SEED: '7' });
    expect(stdout.trim().split('\n').at(-1), stdout + stderr).toBe('cases=12000 admitted=0 crashed=0');
    expect(status).toBe(0);
    // It would prove nothing if everything were refused.
    for (const target of ['envelopes', 'commands', 'questions', 'receipts', 'tokens', 'policies', 'hosts', 'manifests'])
      expect(Number(new RegExp(`${target} \\d+ \\((\\d+) let in\\)`).exec(stdout)?.[1]), target).toBeGreaterThan(20);
    // Bounded memory.
    expect(Number(/at most (\d+) MiB/.exec(stdout)?.[1])).toBeLessThan(400);
  });

  it('says which numbers it began with, and takes none that are none', () => {
    expect(fuzz({ CASES: '10' }).stdout).toMatch(/^seed=\d+\n/);
    expect(fuzz({ CASES: 'many' }).status).toBe(2);
  });
});
