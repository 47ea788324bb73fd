import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { inspectAll } from '../outbound/docker.ts';
import { composeLabel } from '../plan/containers.ts';
import { Failure } from '../plan/failure.ts';
import type { Release, ReleasedFile, RememberStep } from '../plan/plan.ts';
import { readJson, writeDurably } from '../system/durable-files.ts';
import { readCheckedConfig } from './checked-config.ts';
import { retryWhenEngineAnswers } from './engine-retry.ts';
import { listContainers } from './health.ts';
import { shippedPath } from './run-folder.ts';
import { failedResult, type StepContext, type StepExecution, SUCCEEDED } from './runner.ts';

/** The content of `releases.json`. Each file's content is stored next to it under its SHA-256. */
interface ReleaseRecord {
  version: 1;
  releases: Release[];
}

/** The runs that are listed for one unchanged release. */
const MAX_RUNS = 20;

export function runRemember(step: RememberStep, context: StepContext): StepExecution {
  return retryWhenEngineAnswers(context, () => recordRelease(step, context));
}

/** Adds the stack's current state to its releases. If it equals the newest release, that gets the run's name too. */
async function* recordRelease(step: RememberStep, { engine, runDir }: StepContext): StepExecution {
  const run = step.as ?? basename(runDir);
  const contents = join(step.folder, 'files');
  await mkdir(contents, { recursive: true, mode: 0o700 });
  const all = await inspectAll(engine, await listContainers(engine, step.project));
  const images = new Map(
    all
      .filter(({ listed }) => listed.State !== 'created')
      .map(({ listed, inspected }) => [
        composeLabel(listed, 'service'),
        { service: composeLabel(listed, 'service'), reference: inspected.Config.Image, image: inspected.Image },
      ]),
  );
  // The files of an earlier rollout are kept already, or are missing because an agent before this feature got them.
  for (const { sha256 } of step.files ?? [])
    await keepContent(contents, sha256, () => readFile(shippedPath(runDir, sha256))).catch(() => undefined);
  const { sha256, profiles } = step.config;
  try {
    await keepContent(contents, sha256, () => readCheckedConfig(step.config));
  } catch (error) {
    if (error instanceof Failure) return failedResult(error);
    throw error;
  }
  const release: Release = {
    runs: [run],
    at: new Date().toISOString(),
    images: [...images.values()].sort((a, b) => (a.service < b.service ? -1 : 1)),
    files: step.files,
    config: { sha256, profiles },
    ...(step.of === undefined ? {} : { of: step.of }),
    ...(step.points === undefined ? {} : { points: step.points }),
  };
  const file = join(step.folder, 'releases.json');
  const before = readJson<ReleaseRecord>(file)?.releases ?? [];
  const newest = before.at(-1);
  const releases =
    newest && releaseContent(newest) === releaseContent(release)
      ? [...before.slice(0, -1), { ...release, runs: [...new Set([...newest.runs, ...release.runs])].slice(-MAX_RUNS) }]
      : [...before.filter(one => !one.runs.includes(run)), release].slice(-step.keep);
  await writeDurably(file, `${JSON.stringify({ version: 1, releases } satisfies ReleaseRecord, null, 1)}\n`);
  await removeUnusedContents(contents, releases);
  for (const { service, reference, image } of release.images)
    yield { text: `${service}: ${reference} ${image.slice(0, 19)}\n` };
  return SUCCEEDED;
}

function releaseContent({ images, files, config, of }: Release): string {
  const listFiles = (list: ReleasedFile[]) => list.map(({ path, mode, sha256 }) => `${path} ${mode} ${sha256}`).sort();
  return JSON.stringify([images, files && listFiles(files), config ?? null, of ?? null]);
}

async function keepContent(contents: string, sha256: string, read: () => Promise<Buffer>): Promise<void> {
  const file = join(contents, sha256);
  if (await stat(file).catch(() => undefined)) return;
  await writeDurably(file, await read());
}

/** Removes the contents that no release refers to any more. */
async function removeUnusedContents(contents: string, releases: Release[]): Promise<void> {
  const named = new Set(
    releases.flatMap(({ files, config, compose = [] }) =>
      [...(files ?? []), ...(config ? [config] : []), ...compose].map(one => one.sha256),
    ),
  );
  for (const name of await readdir(contents)) if (!named.has(name)) await rm(join(contents, name), { force: true });
}
