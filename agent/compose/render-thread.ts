import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parentPort, Worker } from 'node:worker_threads';
import { Failure } from '../plan/failure.ts';
import type { ComposeRules, HostReader, Milliseconds, RenderedStack, RenderRequest } from '../plan/plan.ts';
import { renderStack } from './render.ts';

/** A stack's files decide how long a rendering takes. */
const TIMEOUT_MS: Milliseconds = 60_000;
const MAX_MEMORY_MIB = 1024;
/** A plan and the run that follows render soon after each other, and most of a rendering is the start of its thread. */
const IDLE_MS: Milliseconds = 5_000;

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
  const threads = program === undefined ? undefined : new RenderThreads(program);
  return request => {
    const { rulesOf, configDir } = site();
    const task = { request, rules: rulesOf(request.stack), configDir };
    return threads ? threads.render(task) : renderStack(task.request, task.rules, configDir);
  };
}

/** Threads that render one task at a time. One that is idle is kept for a moment. */
class RenderThreads {
  readonly #program: string;
  #idle: { thread: RenderThread; timer: NodeJS.Timeout } | undefined;

  constructor(program: string) {
    this.#program = program;
  }

  async render(task: RenderTask): Promise<RenderedStack> {
    const thread = this.#takeIdle() ?? (await RenderThread.start(this.#program));
    let answer: RenderAnswer;
    try {
      answer = await thread.answer(task);
    } catch (error) {
      await thread.end();
      throw error;
    }
    await this.#keep(thread);
    if ('rendered' in answer) return answer.rendered;
    const { code, message, remedy } = answer.failure;
    throw new Failure(code, message, remedy);
  }

  #takeIdle(): RenderThread | undefined {
    const idle = this.#idle;
    this.#idle = undefined;
    clearTimeout(idle?.timer);
    return idle?.thread.isAlive ? idle.thread : undefined;
  }

  async #keep(thread: RenderThread): Promise<void> {
    if (this.#idle) return thread.end();
    const timer = setTimeout(() => void this.#takeIdle()?.end(), IDLE_MS);
    timer.unref();
    this.#idle = { thread, timer };
  }
}

class RenderThread {
  readonly #worker: Worker;
  readonly #scratch: string;
  isAlive = true;

  private constructor(program: string, scratch: string) {
    this.#scratch = scratch;
    this.#worker = new Worker(program, {
      env: { ...(process.env.PATH === undefined ? {} : { PATH: process.env.PATH }), TMPDIR: scratch },
      resourceLimits: { maxOldGenerationSizeMb: MAX_MEMORY_MIB },
    });
    this.#worker.once('exit', () => {
      this.isAlive = false;
    });
    // An error of an idle thread ends it, and has no task to report it.
    this.#worker.on('error', () => undefined);
  }

  static async start(program: string): Promise<RenderThread> {
    return new RenderThread(program, await mkdtemp(join(tmpdir(), 'chatops-renders-')));
  }

  /** Renders a task. Throws {@link Failure} `compose-slow`, `compose-too-large`, and the thread's own error: then it must be ended. */
  async answer(task: RenderTask): Promise<RenderAnswer> {
    const worker = this.#worker;
    const answered = new AbortController();
    const on = (event: string, listener: (value: unknown) => void) => {
      worker.on(event, listener);
      answered.signal.addEventListener('abort', () => worker.off(event, listener));
    };
    let timer: NodeJS.Timeout | undefined;
    // An idle thread does not keep the process running, and one with a task does.
    worker.ref();
    try {
      return await new Promise<RenderAnswer>((resolve, reject) => {
        timer = setTimeout(() => reject(tooMuch('compose-slow', `longer than ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
        on('message', value => resolve(value as RenderAnswer));
        on('error', error => {
          const isTooLarge = (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
          reject(isTooLarge ? tooMuch('compose-too-large', `more than ${MAX_MEMORY_MIB} MiB of memory`) : error);
        });
        on('exit', () => reject(new Error('The thread of a rendering ended without an answer.')));
        worker.postMessage(task);
      });
    } finally {
      clearTimeout(timer);
      answered.abort();
      worker.unref();
    }
  }

  /** Ends the thread. Copies of a task that it did not finish are removed with its folder. */
  async end(): Promise<void> {
    await this.#worker.terminate();
    await rm(this.#scratch, { recursive: true, force: true });
  }
}

function tooMuch(code: string, limit: string): Failure {
  const message = `The stack’s compose config needs ${limit} to be rendered.`;
  return new Failure(code, message, 'Make the compose files smaller. Nothing was started.');
}

/** Renders in a thread that {@link createRenderer} started, one task after another. */
export function answerRenderTasks(): void {
  parentPort?.on('message', async ({ request, rules, configDir }: RenderTask) => {
    try {
      parentPort?.postMessage({ rendered: await renderStack(request, rules, configDir) } satisfies RenderAnswer);
    } catch (error) {
      // Another error is a fault: it ends the thread, and the agent reports it.
      if (!(error instanceof Failure)) throw error;
      const { code, message, remedy } = error;
      parentPort?.postMessage({ failure: { code, message, remedy } } satisfies RenderAnswer);
    }
  });
}
