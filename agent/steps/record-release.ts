import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type DockerEngine, inspectAll } from '../outbound/docker.ts';
import { composeLabel } from '../plan/containers.ts';
import type { Release, ReleasedFile, RememberStep } from '../plan/plan.ts';
import type { OutputChunk, StepResult } from '../plan/progress.ts';
import { readJson, writeDurably } from '../system/durable-files.ts';
import { listContainers } from './health.ts';

/** What lies in a stack's memory: `releases.json`, and each file's content under its SHA-256. */
interface ReleaseRecord {
  version: 1;
  releases: Release[];
}

/** How many runs of one unchanged release are named. */
const MOST_RUNS = 20;

/** Adds what runs now to the stack's releases. The same as the newest one is not a new release: it gets the run's name too. */
export async function* recordRelease(
  engine: DockerEngine,
  step: RememberStep,
  run: string,
  shipped: (sha256: string) => string,
): AsyncGenerator<OutputChunk, StepResult> {
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
  // What an earlier rollout shipped is kept already, or was shipped to an agent that kept nothing yet.
  for (const { sha256 } of step.files ?? [])
    await keepContent(contents, sha256, () => readFile(shipped(sha256))).catch(() => undefined);
  const release: Release = {
    runs: [step.as ?? run],
    at: new Date().toISOString(),
    images: [...images.values()].sort((a, b) => (a.service < b.service ? -1 : 1)),
    files: step.files,
    compose: await keepCompose(step.compose, contents),
    ...(step.of === undefined ? {} : { of: step.of }),
    ...(step.points === undefined ? {} : { points: step.points }),
  };
  const file = join(step.folder, 'releases.json');
  const before = readJson<ReleaseRecord>(file)?.releases ?? [];
  const newest = before.at(-1);
  const releases =
    newest && releaseContent(newest) === releaseContent(release)
      ? [
          ...before.slice(0, -1),
          { ...release, runs: [...new Set([...newest.runs, ...release.runs])].slice(-MOST_RUNS) },
        ]
      : [...before.filter(one => !one.runs.includes(step.as ?? run)), release].slice(-step.keep);
  await writeDurably(file, `${JSON.stringify({ version: 1, releases } satisfies ReleaseRecord, null, 1)}\n`);
  await removeUnusedContents(contents, releases);
  for (const { service, reference, image } of release.images)
    yield { text: `${service}: ${reference} ${image.slice(0, 19)}\n` };
  return { outcome: 'succeeded' };
}

function releaseContent({ images, files, compose, of }: Release): string {
  const told = (list: ReleasedFile[]) => list.map(({ path, mode, sha256 }) => `${path} ${mode} ${sha256}`).sort();
  return JSON.stringify([images, files && told(files), told(compose), of ?? null]);
}

async function keepCompose(files: RememberStep['compose'], contents: string): Promise<ReleasedFile[]> {
  const kept: ReleasedFile[] = [];
  for (const path of files) {
    if (typeof path !== 'string') {
      kept.push(path);
      continue;
    }
    const bytes = await readFile(path).catch(() => undefined);
    if (!bytes) continue;
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await keepContent(contents, sha256, async () => bytes);
    kept.push({ path, mode: (await stat(path)).mode & 0o777, sha256 });
  }
  return kept;
}

async function keepContent(contents: string, sha256: string, read: () => Promise<Buffer>): Promise<void> {
  const file = join(contents, sha256);
  if (await stat(file).catch(() => undefined)) return;
  await writeDurably(file, await read());
}

/** Takes away the contents that no release names any more. */
async function removeUnusedContents(contents: string, releases: Release[]): Promise<void> {
  const named = new Set(
    releases.flatMap(({ files, compose }) => [...(files ?? []), ...compose].map(one => one.sha256)),
  );
  for (const name of await readdir(contents)) if (!named.has(name)) await rm(join(contents, name), { force: true });
}
