import { readFileSync } from 'node:fs';
import { type FileHandle, mkdir, open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../protocol/refusal.ts';
import { Failure } from '../plan/failure.ts';
import { removeEmptyCgroup, startInCgroup } from './cgroup.ts';
import { writeDurably } from './durable-files.ts';
import { OpenedPaths } from './opened-paths.ts';
import { type ProcessExit, readIdentity, startProcess, stopGroup } from './process.ts';
import { descriptorPath, openForWriting, openRegular } from './safe-paths.ts';
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
  await using files = new AsyncDisposableStack();
  try {
    const opened = files.use(await OpenedPaths.open(order.opens ?? []));
    const log = files.use(await open(order.log, 'a', 0o600));
    const { stdoutTo, stdinFrom = null } = order;
    const stdout = stdoutTo === null ? log : files.use(await openOutput(stdoutTo, opened));
    const stdin =
      stdinFrom === null ? undefined : files.use(await openRegular(opened.ownPath(stdinFrom), { shown: stdinFrom }));
    const { started, cgroup } = startInCgroup(base, () =>
      startProcess(opened.inArguments(order.argv), {
        cwd: order.cwd === null ? undefined : opened.ownPath(order.cwd),
        env: { ...order.env, ...secrets, [STEP_MARK]: base },
        stdin: stdin?.fd ?? 'ignore',
        stdout: stdout.fd,
        stderr: log.fd,
        more: opened.descriptors,
      }),
    );
    const identity = readIdentity(started.pid);
    if (identity) void writeUntilStored(orderFilesOf(base).pid, JSON.stringify({ ...identity, cgroup }));
    const exceeded = watchSizes(order, { log, stdout, group: identity?.pid }, started.exited);
    const exit = await started.exited;
    if (cgroup !== undefined) removeEmptyCgroup(cgroup);
    const limit = await exceeded;
    return limit === undefined ? exit : { ...exit, exceeded: limit };
  } catch (error) {
    const nothing = { code: null, signal: null } as const;
    if (!(error instanceof Failure)) return { ...nothing, missing: messageOf(error) };
    const { code, message, remedy } = error;
    return { ...nothing, refused: { code, message, remedy } };
  }
}

async function openOutput(path: string, opened: OpenedPaths): Promise<FileHandle> {
  const own = opened.ownPath(path);
  // The agent's own folders may be missing; those of others are opened before.
  if (own === path) await mkdir(dirname(path), { recursive: true });
  return openForWriting(own, path);
}

/**
 * Ends a process whose output becomes too large, also while no agent runs: a full disk stops more than one run. Resolves when
 * the process has ended, with the limit that it exceeded.
 */
async function watchSizes(
  { limits }: ProcessOrder,
  { log, stdout, group }: { log: FileHandle; stdout: FileHandle; group: number | undefined },
  exited: Promise<unknown>,
): Promise<'size' | 'free' | undefined> {
  if (!limits) return undefined;
  let isOver = false;
  void exited.then(() => {
    isOver = true;
  });
  for (;;) {
    const limit = await findExceeded(limits, log, stdout);
    if (limit !== undefined && group !== undefined) await stopGroup(group, SIZE_GRACE_MS);
    if (limit !== undefined || isOver) return limit;
    await Promise.race([exited, sleep(SIZE_POLL_MS)]);
  }
}

async function findExceeded(
  limits: NonNullable<ProcessOrder['limits']>,
  log: FileHandle,
  stdout: FileHandle,
): Promise<'size' | 'free' | undefined> {
  if ((await log.stat()).size > limits.log) return 'size';
  if (stdout === log) return undefined;
  if ('size' in limits.stdout) return (await stdout.stat()).size > limits.stdout.size ? 'size' : undefined;
  const { bavail, bsize } = await statfs(descriptorPath(stdout));
  return bavail * bsize < limits.stdout.free ? 'free' : undefined;
}

const SIZE_POLL_MS = 50;
/** The process fills a disk. */
const SIZE_GRACE_MS = 500;

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
