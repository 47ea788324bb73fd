import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { World } from '../test/stand/world.ts';
import { measurePairs, report } from './pairs.ts';

const ROUNDS = 3;
// V8 releases the memory of the start after about ten idle seconds.
const SETTLE_MS = 12_000;
const BARE = 'require("node:http").createServer((_, response) => response.end("x")).listen(0, "127.0.0.1")';

/** Measures the resident memory of an idle agent against a bare Node HTTP server. */
export async function idle(): Promise<void> {
  const pairs = await measurePairs(ROUNDS, agent, bare);
  console.log(report('idle agent RSS / bare Node HTTP server RSS', pairs, 'MB', '≤ 1.4'));
}

async function agent(): Promise<number> {
  await using world = await new World().start();
  await sleep(SETTLE_MS);
  return rss(world.host.child?.pid);
}

async function bare(): Promise<number> {
  const child = spawn(process.execPath, ['--eval', BARE], { stdio: 'ignore' });
  await sleep(SETTLE_MS);
  const megabytes = rss(child.pid);
  child.kill();
  await once(child, 'exit');
  return megabytes;
}

export function rss(pid: number | undefined): number {
  return memory(pid, 'VmRSS');
}

export function peak(pid: number | undefined): number {
  return memory(pid, 'VmHWM');
}

function memory(pid: number | undefined, field: string): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
}
