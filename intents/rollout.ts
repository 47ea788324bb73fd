import { z } from 'zod';
import { Duration } from './duration.ts';
import { AbsolutePath, ComposePath, commonFields, RelativePath, Service, Stack } from './fields.ts';
import { Verify } from './verify.ts';

const Switch = z
  .union([
    z.strictObject({
      service: Service.describe('The service whose fixed published ports go over from the old project to the new one.'),
    }),
    z.strictObject({
      file: z
        .union([AbsolutePath, RelativePath])
        .describe(
          'The file that a reverse proxy reads: absolute under the stacks’ root, or relative to the stack’s folder.',
        ),
      text: z
        .string()
        .min(1)
        .max(65_536)
        .describe(
          'What is written into it. "$PROJECT" stands for the name of the compose project that is to be served.',
        ),
    }),
  ])
  .describe(
    'How blue-green leads visitors to the new project: a service’s published ports, or a file that a proxy reads.',
  );
export type Switch = z.infer<typeof Switch>;

const BackupName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a backup');

/** Brings a stack, or one service of it, to what its compose file says. */
export const Rollout = z
  .strictObject({
    action: z.literal('rollout'),
    stack: Stack,
    service: Service.optional().describe('Only this service. Without it: the whole stack.'),
    compose: ComposePath,
    source_dir: RelativePath.optional().describe(
      'A folder of the repository whose files are shipped with the command into the stack’s folder.',
    ),
    strategy: z
      .enum(['recreate', 'canary', 'blue-green'])
      .optional()
      .describe(
        'recreate (the default) replaces containers; canary sets one new container beside the old ones first; blue-green brings up a second project and switches over.',
      ),
    switch: Switch.optional(),
    backup_before: BackupName.optional().describe(
      'The name of an intent file beside this one: its backups are made first, in the same run, and must be verified.',
    ),
    max_age: Duration.optional().describe('How old a backup of "needs" may be. Default: 24h.'),
    verify: Verify.optional(),
    ...commonFields,
  })
  .superRefine((intent, context) => {
    const problem = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (intent.strategy === 'canary' && intent.service === undefined)
      problem('strategy', 'Expected "service" beside strategy: canary, which replaces one service');
    if (intent.strategy === 'blue-green' && intent.service !== undefined)
      problem('service', 'Expected no "service" beside strategy: blue-green, which replaces the whole stack');
    if (intent.strategy === 'blue-green' && intent.switch === undefined)
      problem('strategy', 'Expected "switch" beside strategy: blue-green');
    if (intent.max_age !== undefined && intent.needs === undefined)
      problem('max_age', 'Expected "needs" beside "max_age"');
    if (intent.strategy !== 'blue-green' && intent.switch !== undefined)
      problem('switch', 'Expected strategy: blue-green beside "switch"');
  })
  .describe('Brings a stack, or one service of it, to what its compose file says.');
export type Rollout = z.infer<typeof Rollout>;
