import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { COMPILE_CACHE } from './compile-cache.ts';

const BUNDLE = resolve(import.meta.dirname, '../../dist/action/index.js');

export interface Job {
  workspace: string;
  /** Inputs as a workflow writes them (`with:`). */
  inputs: Record<string, string>;
  /** Name and payload of the event. */
  event: string;
  payload: unknown;
  repository: string;
  sha: string;
  ref?: string;
  apiUrl: string;
  env?: Record<string, string>;
  /** Receives the log while the job runs. */
  onLog?: (chunk: string) => void;
  /** Receives the raw output instead, if it is too large to keep or to read as text. */
  onBytes?: (chunk: Buffer) => void;
}

export interface Finished {
  code: number | null;
  signal: NodeJS.Signals | null;
  log: string;
  outputs: Record<string, string>;
  summary: string;
  state: Record<string, string>;
  ms: number;
}

/** Runs the built bundle like GitHub's runner: inputs and files in the environment, commands on standard output. */
export function startJob(
  job: Job,
  state: Record<string, string> = {},
): { child: ChildProcess; finished: Promise<Finished> } {
  const folder = mkdtempSync(join(tmpdir(), 'chatops-job-'));
  const files: Record<string, string> = {};
  for (const name of ['GITHUB_OUTPUT', 'GITHUB_STATE', 'GITHUB_STEP_SUMMARY', 'GITHUB_ENV', 'GITHUB_PATH']) {
    files[name] = join(folder, name);
    writeFileSync(files[name], '');
  }
  const eventPath = join(folder, 'event.json');
  writeFileSync(eventPath, JSON.stringify(job.payload));
  const started = performance.now();
  const child = spawn(process.execPath, [BUNDLE], {
    cwd: job.workspace,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      ...COMPILE_CACHE,
      HOME: folder,
      CI: 'true',
      GITHUB_ACTIONS: 'true',
      GITHUB_WORKSPACE: job.workspace,
      GITHUB_EVENT_NAME: job.event,
      GITHUB_EVENT_PATH: eventPath,
      GITHUB_REPOSITORY: job.repository,
      GITHUB_REPOSITORY_ID: '7001',
      GITHUB_REPOSITORY_OWNER: job.repository.split('/')[0],
      GITHUB_SHA: job.sha,
      GITHUB_REF: job.ref ?? 'refs/heads/main',
      GITHUB_REF_NAME: (job.ref ?? 'refs/heads/main').replace('refs/heads/', ''),
      GITHUB_ACTOR: 'octocat',
      GITHUB_RUN_ID: '42',
      GITHUB_RUN_ATTEMPT: '1',
      GITHUB_WORKFLOW_REF: `${job.repository}/.github/workflows/deploy.yml@refs/heads/main`,
      GITHUB_SERVER_URL: 'https://github.com',
      GITHUB_API_URL: job.apiUrl,
      RUNNER_TEMP: folder,
      ...files,
      ...Object.fromEntries(Object.entries(job.inputs).map(([name, value]) => [inputName(name), value])),
      ...Object.fromEntries(Object.entries(state).map(([name, value]) => [`STATE_${name}`, value])),
      ...job.env,
    },
  });
  let log = '';
  const append = (chunk: string) => {
    log += chunk;
    job.onLog?.(chunk);
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (job.onBytes) stream?.on('data', job.onBytes);
    else stream?.setEncoding('utf8').on('data', append);
  }
  const finished = new Promise<Finished>((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => {
      const result = {
        code,
        signal,
        log,
        outputs: readCommandFile(files.GITHUB_OUTPUT ?? ''),
        state: readCommandFile(files.GITHUB_STATE ?? ''),
        summary: readFileSync(files.GITHUB_STEP_SUMMARY ?? '', 'utf8'),
        ms: performance.now() - started,
      };
      rmSync(folder, { recursive: true });
      done(result);
    });
  });
  return { child, finished };
}

export function runJob(job: Job, state: Record<string, string> = {}): Promise<Finished> {
  return startJob(job, state).finished;
}

function inputName(name: string): string {
  return `INPUT_${name.replaceAll(' ', '_').toUpperCase()}`;
}

/** Parses the runner's file commands: `name<<delimiter`, lines, `delimiter`. */
function readCommandFile(path: string): Record<string, string> {
  const values: Record<string, string> = {};
  const lines = readFileSync(path, 'utf8').split('\n');
  for (let i = 0; i < lines.length; i++) {
    const [name, delimiter] = lines[i]?.split('<<') ?? [];
    if (!name || !delimiter) continue;
    const end = lines.indexOf(delimiter, i + 1);
    values[name] = lines.slice(i + 1, end).join('\n');
    i = end;
  }
  return values;
}
