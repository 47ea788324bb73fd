import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { Failure } from '../plan/failure.ts';
import type { ComposeRules, HostReader, Milliseconds, RenderedStack, RenderRequest } from '../plan/plan.ts';
import { renderStack } from './render.ts';

/** A stack's files decide how long a rendering takes. */
const TIMEOUT_MS: Milliseconds = 60_000;
const MAX_MEMORY_MIB = 1024;

/** The part of agent.yaml that a renderer needs. */
export interface RenderSite {
  rulesOf(stack: string): ComposeRules;
  /** DOCKER_CONFIG: docker looks for its plugins there too. */
  configDir: string | undefined;
}

interface RenderTask {
  request: RenderRequest;
  rules: ComposeRules;
  configDir: string | undefined;
}

type RenderAnswer = { rendered: RenderedStack } | { failure: { code: string; message: string; remedy: string } };

/**
 * Returns the host reader's function that renders, checks and stores a stack's config. `program`: the bundle of this program.
 * It renders in a thread of its own, so that files that take long to parse delay neither the endpoints nor other runs.
 */
export function createRenderer(site: () => RenderSite, program: string | undefined): HostReader['render'] {
  return request => {
    const { rulesOf, configDir } = site();
    const task = { request, rules: rulesOf(request.stack), configDir };
    return program === undefined ? renderStack(task.request, task.rules, configDir) : renderInThread(program, task);
  };
}

async function renderInThread(program: string, task: RenderTask): Promise<RenderedStack> {
  // Copies of a thread that was ended are removed with it.
  const scratch = await mkdtemp(join(tmpdir(), 'chatops-renders-'));
  const worker = new Worker(program, {
    workerData: task,
    env: { ...(process.env.PATH === undefined ? {} : { PATH: process.env.PATH }), TMPDIR: scratch },
    resourceLimits: { maxOldGenerationSizeMb: MAX_MEMORY_MIB },
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const answer = await new Promise<RenderAnswer>((resolve, reject) => {
      timer = setTimeout(() => resolve(tooMuch('compose-slow', `longer than ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
      worker.once('message', resolve);
      worker.once('error', error => {
        const isTooLarge = (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
        if (isTooLarge) resolve(tooMuch('compose-too-large', `more than ${MAX_MEMORY_MIB} MiB of memory`));
        else reject(error);
      });
      worker.once('exit', () => reject(new Error('The thread of a rendering ended without an answer.')));
    });
    if ('rendered' in answer) return answer.rendered;
    const { code, message, remedy } = answer.failure;
    throw new Failure(code, message, remedy);
  } finally {
    clearTimeout(timer);
    await worker.terminate();
    await rm(scratch, { recursive: true, force: true });
  }
}

function tooMuch(code: string, limit: string): RenderAnswer {
  const message = `The stack’s compose config needs ${limit} to be rendered.`;
  return { failure: { code, message, remedy: 'Make the compose files smaller. Nothing was started.' } };
}

/** Renders in a thread that {@link createRenderer} started. */
export async function answerRenderTask(): Promise<void> {
  const { request, rules, configDir } = workerData as RenderTask;
  try {
    parentPort?.postMessage({ rendered: await renderStack(request, rules, configDir) } satisfies RenderAnswer);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { code, message, remedy } = error;
    parentPort?.postMessage({ failure: { code, message, remedy } } satisfies RenderAnswer);
  }
}
