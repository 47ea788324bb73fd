import { z } from 'zod';
import { AbsolutePath, common, RelativePath, Service, Stack } from './names.ts';

/** Brings a stack, or one service of it, to what its compose file says. */
export const Rollout = z
  .strictObject({
    action: z.literal('rollout'),
    stack: Stack,
    service: Service.optional().describe('Only this service. Without it: the whole stack.'),
    compose: z
      .union([AbsolutePath, RelativePath], {
        error:
          'Expected a path: absolute ("/opt/stacks/stack-media/docker-compose.yml") or relative to the stack’s folder, without ".."',
      })
      .optional()
      .describe(
        'The compose file: absolute, or relative to the stack’s folder. Without it: the one that compose finds there.',
      ),
    source_dir: RelativePath.optional().describe(
      'A folder of the repository whose files are shipped with the command into the stack’s folder.',
    ),
    ...common,
  })
  .describe('Brings a stack, or one service of it, to what its compose file says.');
export type Rollout = z.infer<typeof Rollout>;
