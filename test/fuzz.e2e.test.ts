import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const fuzz = (env: Record<string, string>) =>
  spawnSync(process.execPath, ['test/fuzz/main.ts'], { encoding: 'utf8', env: { PATH: process.env.PATH, ...env } });

describe('make fuzz', () => {
  it('finds no invalid input that the agent admits and none that crashes it', { timeout: 120_000 }, () => {
    const { status, stdout, stderr } = fuzz({ CASES: '12000', SEED: '7' });
    expect(stdout.trim().split('\n').at(-1), stdout + stderr).toBe('cases=12000 admitted=0 crashed=0');
    expect(status).toBe(0);
    // A fuzzer proves nothing if the agent refuses everything.
    for (const target of ['envelopes', 'commands', 'questions', 'receipts', 'tokens', 'policies', 'hosts', 'manifests'])
      expect(Number(new RegExp(`${target} \\d+ \\((\\d+) let in\\)`).exec(stdout)?.[1]), target).toBeGreaterThan(20);
    // The agent’s memory is bounded.
    expect(Number(/at most (\d+) MiB/.exec(stdout)?.[1])).toBeLessThan(400);
  });

  it('prints its seed, and refuses a number of cases that is not a number', () => {
    expect(fuzz({ CASES: '10' }).stdout).toMatch(/^seed=\d+\n/);
    expect(fuzz({ CASES: 'many' }).status).toBe(2);
  });
});
