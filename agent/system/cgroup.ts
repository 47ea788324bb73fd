import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The systemd unit sets it together with Delegate=yes: the agent may create control groups below its own. */
export const CGROUP_VARIABLE = 'CHATOPS_CGROUP';

const KILL_TIMEOUT_MS = 5_000;

/**
 * Calls `start` so that its process gets its own control group, which all descendants stay in, whatever they do. Returns the
 * group's folder too; without one if the agent may not create groups, because the step runs anyway.
 */
export function startInCgroup<T>(base: string, start: () => T): { started: T; cgroup?: string } {
  const home = process.env[CGROUP_VARIABLE] === 'delegated' ? findOwnCgroup() : undefined;
  if (home === undefined) return { started: start() };
  const cgroup = join(home, `step-${createHash('sha256').update(base).digest('hex').slice(0, 16)}`);
  let isInside = false;
  try {
    mkdirSync(cgroup, { recursive: true });
    // A process starts in its parent's group: this process moves there for that moment. 0 means the writing process.
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

/** Kills all processes of the group at once, and removes the group. */
export async function killCgroup(cgroup: string): Promise<void> {
  try {
    writeFileSync(join(cgroup, 'cgroup.kill'), '1');
  } catch {
    // The group is gone, or the kernel is older than 5.14 and has no such file.
  }
  const deadline = performance.now() + KILL_TIMEOUT_MS;
  while (isPopulated(cgroup) && performance.now() < deadline) await sleep(20);
  removeEmptyCgroup(cgroup);
}

/** Removes the group if it has no processes. */
export function removeEmptyCgroup(cgroup: string): void {
  try {
    rmdirSync(cgroup);
  } catch {
    // It still has processes, or it is gone.
  }
}

function isPopulated(cgroup: string): boolean {
  try {
    return readFileSync(join(cgroup, 'cgroup.events'), 'utf8').includes('populated 1');
  } catch {
    return false;
  }
}

/** Returns the folder of this process's control group in the unified hierarchy. */
function findOwnCgroup(): string | undefined {
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
