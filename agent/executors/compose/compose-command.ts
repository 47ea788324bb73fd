import type { CheckedConfig, ComposeConfig, MountSource } from '../../plan/plan.ts';

/** A checked config, and how compose is called with it. Its file is the only input of every compose command. */
export interface StackConfig extends CheckedConfig {
  /** The docker client, as argv[0]. */
  docker: string;
  dir: string;
  /** Name of the compose project. */
  project: string;
  /** Active profiles. */
  profiles: string[];
}

/** A rendered and checked stack, for one or two project names. */
export interface CheckedStack {
  /** Undefined if not known (in a dry run). */
  rendered: ComposeConfig | undefined;
  mounts: MountSource[];
  /** Sentences for people. */
  warnings: string[];
  /** The config of the stack's own project name, which a release keeps. */
  base: StackConfig;
  /** Returns the config of a project name. */
  of(project: string): StackConfig;
  /** The config in which the service of blue-green's switch publishes no port. */
  unpublished: StackConfig | undefined;
}

/** Returns the argv of a compose command. Compose reads the checked config and no other file, also no `.env`. */
export function composeCommand(
  { docker, dir, project, file, profiles }: StackConfig,
  args: string[],
): [string, ...string[]] {
  return [
    ...([docker, 'compose', '--ansi', 'never', '--progress', 'plain'] as const),
    ...['--project-directory', dir, '--project-name', project, '--file', file, '--env-file', '/dev/null'],
    ...profiles.flatMap(profile => ['--profile', profile]),
    ...args,
  ];
}
