import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import { removeEmptyCgroup, startInCgroup } from './cgroup.ts';
import { writeDurably } from './durable-files.ts';
import { type ProcessExit, readIdentity, startProcess } from './process.ts';
import { type OrderLine, orderFilesOf, type ProcessOrder, STEP_MARK } from './supervisor.ts';

/**
 * Runs the supervisor's own process (the hidden command `keeper`). Each line of its input names an order: it starts that
 * process and writes its exit next to the order, even if no agent runs then. Returns when its input has ended and its last
 * process too.
 */
export async function superviseRun(): Promise<number> {
  // This process outlives the agent.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
  process.stdout.on('error', () => undefined);
  const running: Promise<void>[] = [];
  for await (const line of createInterface(process.stdin)) running.push(executeOrder(JSON.parse(line) as OrderLine));
  await Promise.all(running);
  return 0;
}

async function executeOrder({ base, secrets }: OrderLine): Promise<void> {
  const files = orderFilesOf(base);
  const order = JSON.parse(readFileSync(files.order, 'utf8')) as ProcessOrder;
  const exit = await runProcess(base, order, secrets);
  // Reported even if the disk is full: an agent that runs does not need the file, the next one does.
  const written = writeUntilStored(files.exit, JSON.stringify(exit));
  await Promise.race([written, sleep(200)]);
  process.stdout.write(`${JSON.stringify({ base, exit })}\n`);
  await written;
}

async function runProcess(base: string, order: ProcessOrder, secrets: Record<string, string>): Promise<ProcessExit> {
  const opened: number[] = [];
  try {
    const log = openSync(order.log, 'a', 0o600);
    opened.push(log);
    if (order.stdoutTo !== null) mkdirSync(dirname(order.stdoutTo), { recursive: true });
    const stdout = order.stdoutTo === null ? log : openSync(order.stdoutTo, 'w', 0o600);
    opened.push(stdout);
    const { stdinFrom = null } = order;
    const stdin = stdinFrom === null ? 'ignore' : openSync(stdinFrom, 'r');
    if (stdin !== 'ignore') opened.push(stdin);
    const { started, cgroup } = startInCgroup(base, () =>
      startProcess(order.argv, {
        cwd: order.cwd ?? undefined,
        env: { ...order.env, ...secrets, [STEP_MARK]: base },
        stdin,
        stdout,
        stderr: log,
      }),
    );
    const identity = readIdentity(started.pid);
    if (identity) void writeUntilStored(orderFilesOf(base).pid, JSON.stringify({ ...identity, cgroup }));
    const exit = await started.exited;
    if (cgroup !== undefined) removeEmptyCgroup(cgroup);
    return exit;
  } catch (error) {
    return { code: null, signal: null, missing: messageOf(error) };
  } finally {
    for (const descriptor of new Set(opened)) closeSync(descriptor);
  }
}

/** Tries until the file is written: a full disk may get free space later. */
async function writeUntilStored(file: string, text: string): Promise<void> {
  for (;;) {
    try {
      return await writeDurably(file, text);
    } catch {
      await sleep(1_000);
    }
  }
}
