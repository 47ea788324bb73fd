import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The unit says so together with Delegate=yes: below the agent's own control group the agent may make others. */
export const CGROUP_VARIABLE = 'CHATOPS_CGROUP';

const PATIENCE_MS = 5_000;

/**
 * Has `start` start its process in a control group of its own, in which everything that it starts stays, whatever it does.
 * Returns that group's folder too; undefined where there is none to be had, which is no reason not to start.
 */
export function startInCgroup<T>(base: string, start: () => T): { started: T; cgroup?: string } {
  const home = process.env[CGROUP_VARIABLE] === 'delegated' ? ownGroup() : undefined;
  if (home === undefined) return { started: start() };
  const cgroup = join(home, `step-${createHash('sha256').update(base).digest('hex').slice(0, 16)}`);
  let isInside = false;
  try {
    mkdirSync(cgroup, { recursive: true });
    // A process is born where its parent is: this one goes there for that moment. 0 means whoever writes.
    writeFileSync(join(cgroup, 'cgroup.procs'), '0');
    isInside = true;
    return { started: start(), cgroup };
  } catch (error) {
    if (isInside) throw error;
    return { started: start() };
  } finally {
    if (isInside) writeFileSync(join(home, 'cgroup.procs'), '0');
  }
}

/** Ends everything in the group at once, and takes the group away. */
export async function killCgroup(cgroup: string): Promise<void> {
  try {
    writeFileSync(join(cgroup, 'cgroup.kill'), '1');
  } catch {
    // It is gone, or a kernel before 5.14 has no such file.
  }
  const deadline = performance.now() + PATIENCE_MS;
  while (isPopulated(cgroup) && performance.now() < deadline) await sleep(20);
  removeEmptyCgroup(cgroup);
}

/** Takes the group away where nobody is left in it. */
export function removeEmptyCgroup(cgroup: string): void {
  try {
    rmdirSync(cgroup);
  } catch {
    // Somebody is left in it, or it is gone.
  }
}

function isPopulated(cgroup: string): boolean {
  try {
    return readFileSync(join(cgroup, 'cgroup.events'), 'utf8').includes('populated 1');
  } catch {
    return false;
  }
}

/** The folder of this process's own group in the unified hierarchy. */
function ownGroup(): string | undefined {
  try {
    const path = /^0::(\/.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
    const mount = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .find(line => line.split(' ')[2] === 'cgroup2');
    return path === undefined || mount === undefined ? undefined : join(mount.split(' ')[1] ?? '', path);
  } catch {
    return undefined;
  }
}
