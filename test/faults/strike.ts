import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bench, kill } from './bench.ts';
import type { Random } from './random.ts';

export const FAULTS = [
  'agent killed',
  'agent killed',
  'agent stopped',
  'agent killed with its processes',
  'action killed',
  'action cancelled',
  'compose killed',
  'compose terminated',
  'supervisor killed',
  'cable pulled',
  'cable half-open',
  'slow reader',
  'one byte at a time',
  'dockerd killed',
  'dockerd restarted',
] as const;
export type Fault = (typeof FAULTS)[number];

/** Causes a fault, and repairs what the product can't repair: starts agents and engines again, and reconnects cables. */
export async function strike(fault: Fault, bench: Bench, job: ChildProcess, random: Random): Promise<void> {
  const { host } = bench.world;
  const pauseMs = random.below(1500);
  switch (fault) {
    case 'agent killed':
    case 'agent stopped':
    case 'agent killed with its processes': {
      const pids = fault === 'agent killed with its processes' ? [...bench.supervisors(), ...bench.steps()] : [];
      await host.stop(fault === 'agent stopped' ? 'SIGTERM' : 'SIGKILL');
      for (const pid of pids) kill(pid, 'SIGKILL');
      await sleep(pauseMs);
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
      const victims = random.next() < 0.5 ? pids : pids.slice(0, 1);
      for (const pid of victims) kill(pid, fault === 'compose killed' ? 'SIGKILL' : 'SIGTERM');
      return;
    }
    case 'supervisor killed':
      for (const pid of bench.supervisors()) kill(pid, 'SIGKILL');
      return;
    case 'cable pulled':
    case 'cable half-open':
      bench.cable.mode = fault === 'cable pulled' ? 'unplugged' : 'half-open';
      if (fault === 'cable pulled') bench.cable.cut();
      await sleep(pauseMs);
      bench.cable.mode = 'whole';
      // Half-open connections are reset, as a router does after it has lost their state.
      bench.cable.cut();
      return;
    case 'slow reader':
    case 'one byte at a time':
      bench.cable.mode = fault === 'slow reader' ? 'slow' : 'one byte at a time';
      await sleep(2 * pauseMs);
      bench.cable.mode = 'whole';
      return;
    case 'dockerd killed':
    case 'dockerd restarted':
      await bench.engine.restart(fault === 'dockerd killed' ? 'SIGKILL' : 'SIGTERM');
  }
}
