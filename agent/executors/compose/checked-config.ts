import { Failure } from '../../plan/failure.ts';
import type { HostReader, Release, RenderRequest } from '../../plan/plan.ts';
import type { PlanContext } from '../executor.ts';
import type { CheckedStack, StackConfig } from './compose-command.ts';
import { releasedContentPath, type StackState } from './current-state.ts';
import type { Shipment } from './ship-files.ts';
import { type ComposeTarget, composeFile, GREEN, type StackIntent } from './target.ts';

/** The version that ran before a change. Undefined: nothing ran. `refused`: why it can't be started again. */
export type StackBefore = { stack: CheckedStack } | { refused: string } | undefined;

/** Input of {@link checkStack} and {@link checkBefore}. */
export interface CheckContext extends Pick<PlanContext, 'site' | 'configs'> {
  intent: StackIntent;
  target: ComposeTarget;
  host: HostReader;
}

type Source = Pick<RenderRequest, 'overlay' | 'stored'> & {
  /** The active profiles of a stored config. */
  profiles?: string[];
};

interface CheckOptions {
  /** Name of the files: `next`, `before`. */
  as: string;
  /** A config for blue-green's second project name is needed. */
  green?: boolean;
  /** The service that publishes no port at first, and the project in which it does not. */
  unpublished?: { service: string; project: string } | undefined;
}

/** In compose's search order: it reads one of them in addition to the file that it finds by itself. */
const OVERRIDES = [
  'compose.override.yaml',
  'compose.override.yml',
  'docker-compose.override.yml',
  'docker-compose.override.yaml',
];

/** Renders and checks what a plan brings up, or checks a config that was kept. Throws Failure `compose-…`. */
export async function checkStack(
  { intent, target, site, configs, host }: CheckContext,
  { profiles, ...source }: Source,
  { as, green = target.name !== target.ownName, unpublished }: CheckOptions,
): Promise<CheckedStack> {
  const fileOf = (variant?: string) => `${configs}/${as}${variant === undefined ? '' : `-${variant}`}.json`;
  const greenName = `${target.ownName}${GREEN}`;
  const rendered = await host.render({
    stack: intent.stack,
    dir: target.dir,
    compose: composeFile(intent, site),
    ...source,
    as: fileOf(),
    variants: {
      ...(green ? { green: { as: fileOf('green'), project: greenName } } : {}),
      ...(unpublished
        ? {
            unpublished: {
              as: fileOf('unpublished'),
              project: unpublished.project,
              unpublished: unpublished.service,
            },
          }
        : {}),
    },
  });
  const configFor = (project: string, variant?: string): StackConfig => {
    const checked = variant === undefined ? rendered : rendered?.variants[variant];
    const { file, sha256 } = checked ?? { file: fileOf(variant), sha256: '' };
    return {
      ...{ docker: site.docker, dir: target.dir, project, file, sha256 },
      profiles: profiles ?? rendered?.profiles ?? [],
    };
  };
  return {
    rendered: rendered?.config,
    mounts: rendered?.mounts ?? [],
    warnings: rendered?.warnings ?? [],
    base: configFor(target.ownName),
    of: project => configFor(project, project === greenName ? 'green' : undefined),
    unpublished: unpublished && configFor(unpublished.project, 'unpublished'),
  };
}

/** Checks a release's config again, or renders the files that an older agent kept of it. */
export function checkRelease(
  context: CheckContext,
  release: Release,
  options: CheckOptions & { removes?: string[] },
): Promise<CheckedStack> {
  const { site, intent, target } = context;
  const { config } = release;
  const keptPath = (sha256: string) => releasedContentPath(site, intent.stack, { sha256 });
  if (config) {
    const stored = { file: keptPath(config.sha256), sha256: config.sha256 };
    return checkStack(context, { overlay: {}, stored, profiles: config.profiles }, options);
  }
  const absent = [...OVERRIDES, ...(options.removes ?? [])];
  const shipped = (release.files ?? []).map(file => ({ ...file, path: `${target.dir}/${file.path}` }));
  const overlay = {
    ...Object.fromEntries(absent.map(name => [`${target.dir}/${name}`, null])),
    ...Object.fromEntries([...(release.compose ?? []), ...shipped].map(file => [file.path, keptPath(file.sha256)])),
  };
  return checkStack(context, { overlay }, options);
}

/** Finds the version that an undo brings back, and checks it by today's rules. `next`: the checked new version. */
export async function checkBefore(
  context: CheckContext,
  { containers, releases }: StackState,
  { step }: Shipment,
  next: CheckedStack,
  green?: boolean,
): Promise<StackBefore> {
  if (containers?.length === 0) return undefined;
  const newest = releases.at(-1);
  // Nothing is shipped and nothing is recorded: the files of the host are what ran.
  if (!newest && !step) return { stack: next };
  const options: CheckOptions = { as: 'before', ...(green === undefined ? {} : { green }) };
  try {
    return {
      stack: await (newest ? checkRelease(context, newest, options) : checkStack(context, { overlay: {} }, options)),
    };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { refused: error.message };
  }
}

/** Returns the plan's sentence about a version that can't be brought back, if a failure would have to. */
export function describeOneWay(
  before: StackBefore,
  { on_failure }: { on_failure?: string | undefined },
): { oneWay?: string } {
  return before && 'refused' in before && on_failure !== 'stop'
    ? { oneWay: `There is no version to bring back: ${before.refused}` }
    : {};
}
