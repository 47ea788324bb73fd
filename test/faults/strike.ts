import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bench, kill } from './bench.ts';
import type { Random } from './random.ts';

export const FAULTS = [
  'agent killed',
  'agent killed',
  'agent stopped',
  'agent killed with all it had started',
  'action killed',
  'action cancelled',
  'compose killed',
  'compose terminated',
  'keeper killed',
  'cable pulled',
  'cable half-open',
  'slow reader',
  'one byte at a time',
  'dockerd killed',
  'dockerd restarted',
] as const;
export type Fault = (typeof FAULTS)[number];

/** Does it, and puts right what is not the product's to put right: agents and engines are started again, cables plugged in. */
export async function strike(fault: Fault, bench: Bench, job: ChildProcess, random: Random): Promise<void> {
  const { host } = bench.world;
  const after = random.below(1500);
  switch (fault) {
    case 'agent killed':
    case 'agent stopped':
    case 'agent killed with all it had started': {
      const pids = fault === 'agent killed with all it had started' ? [...bench.keepers(), ...bench.steps()] : [];
      await host.stop(fault === 'agent stopped' ? 'SIGTERM' : 'SIGKILL');
      for (const pid of pids) kill(pid, 'SIGKILL');
      await sleep(after);
      await host.start();
      return;
    }
    case 'action killed':
      job.kill('SIGKILL');
      return;
    case 'action cancelled':
      job.kill('SIGINT');
      return;
    case 'compose killed':
    case 'compose terminated': {
      const pids = bench.steps();
      const some = random.next() < 0.5 ? pids : pids.slice(0, 1);
      for (const pid of some) kill(pid, fault === 'compose killed' ? 'SIGKILL' : 'SIGTERM');
      return;
    }
    case 'keeper killed':
      for (const pid of bench.keepers()) kill(pid, 'SIGKILL');
      return;
    case 'cable pulled':
    case 'cable half-open':
      bench.cable.mode = fault === 'cable pulled' ? 'unplugged' : 'half-open';
      if (fault === 'cable pulled') bench.cable.cut();
      await sleep(after);
      bench.cable.mode = 'whole';
      // What stood half-open is reset, as a router does that has forgotten it.
      bench.cable.cut();
      return;
    case 'slow reader':
    case 'one byte at a time':
      bench.cable.mode = fault === 'slow reader' ? 'slow' : 'one byte at a time';
      await sleep(2 * after);
      bench.cable.mode = 'whole';
      return;
    case 'dockerd killed':
    case 'dockerd restarted':
      await bench.engine.restart(fault === 'dockerd killed' ? 'SIGKILL' : 'SIGTERM');
  }
}
