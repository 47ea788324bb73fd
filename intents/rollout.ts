import { z } from 'zod';
import { Duration } from './duration.ts';
import { AbsolutePath, ComposePath, commonFields, RelativePath, Service, Stack } from './fields.ts';
import { Verify } from './verify.ts';

const Switch = z
  .union([
    z.strictObject({
      service: Service.describe('The service whose fixed published ports move from the old project to the new one.'),
    }),
    z.strictObject({
      file: z
        .union([AbsolutePath, RelativePath])
        .describe(
          'The file that a reverse proxy reads: relative to the stack’s folder, or absolute in a folder of stacks.switch_folders of agent.yaml.',
        ),
      text: z
        .string()
        .min(1)
        .max(65_536)
        .describe(
          'The new content of the file. "$PROJECT" stands for the name of the compose project that the proxy must serve.',
        ),
    }),
  ])
  .describe(
    'The switch of blue-green to the new project: the published ports of a service, or a file that a proxy reads.',
  );
export type Switch = z.infer<typeof Switch>;

const BackupName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a backup');

/** Brings a stack, or one service of it, to the state of its compose file. */
export const Rollout = z
  .strictObject({
    action: z.literal('rollout'),
    stack: Stack,
    service: Service.optional().describe('Only this service. Default: the whole stack.'),
    compose: ComposePath,
    // A slash at the end would make other paths of the files below it.
    source_dir: RelativePath.overwrite(path => path.replace(/\/+$/, ''))
      .optional()
      .describe('A folder of the repository whose files are shipped with the command into the stack’s folder.'),
    strategy: z
      .enum(['recreate', 'canary', 'blue-green'])
      .optional()
      .describe(
        'recreate (the default) replaces containers; canary first starts one new container in addition to the old ones; blue-green starts a second project and switches to it.',
      ),
    switch: Switch.optional(),
    backup_before: BackupName.optional().describe(
      'The name of an intent file in the same folder. Its backups run first, in the same run, and must be verified.',
    ),
    max_age: Duration.optional().describe('The longest age of a backup of "needs". Default: 24h.'),
    verify: Verify.optional(),
    ...commonFields,
  })
  .superRefine((intent, context) => {
    const problem = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (intent.strategy === 'canary' && intent.service === undefined)
      problem('strategy', 'Expected "service" with strategy: canary, which replaces one service');
    if (intent.strategy === 'blue-green' && intent.service !== undefined)
      problem('service', 'Expected no "service" with strategy: blue-green, which replaces the whole stack');
    if (intent.strategy === 'blue-green' && intent.switch === undefined)
      problem('strategy', 'Expected "switch" with strategy: blue-green');
    if (intent.max_age !== undefined && intent.needs === undefined)
      problem('max_age', 'Expected "needs" together with "max_age"');
    if (intent.strategy !== 'blue-green' && intent.switch !== undefined)
      problem('switch', 'Expected strategy: blue-green with "switch"');
  })
  .describe('Brings a stack, or one service of it, to the state of its compose file.');
export type Rollout = z.infer<typeof Rollout>;
