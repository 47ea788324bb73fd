import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';

/** Runs the program of "make faults" for a few rounds. */
it('random faults lose no run, repeat no step and leave no service down, locked or orphaned', {
  timeout: 300_000,
}, async () => {
  const child = spawn(process.execPath, ['test/faults/main.ts'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ROUNDS: '4', SEED: '7' },
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    output += chunk;
  });
  const [code] = await once(child, 'close');
  expect({ exit: code, summary: output.trim().split('\n').at(-1) }, output).toEqual({
    exit: 0,
    summary: 'rounds=4 lost=0 doubled=0 down=0 locks=0 orphans=0',
  });
});
