import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';

/** The short form of "make faults": the same program, a few rounds. */
it('random faults lose nothing, do nothing twice and leave nothing down, locked or orphaned', {
  timeout: 300_000,
}, async () => {
  const child = spawn(process.execPath, ['test/faults/main.ts'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ROUNDS: '4', SEED: '7' },
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', chunk => {
    said += chunk;
  });
  const [code] = await once(child, 'close');
  expect({ exit: code, said: said.trim().split('\n').at(-1) }, said).toEqual({
    exit: 0,
    said: 'rounds=4 lost=0 doubled=0 down=0 locks=0 orphans=0',
  });
});
