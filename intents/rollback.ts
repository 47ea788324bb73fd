import { z } from 'zod';
import { ComposePath, commonFields, Stack } from './fields.ts';
import { Verify } from './verify.ts';

/** Brings a stack back to what an earlier run left. */
export const Rollback = z
  .strictObject({
    action: z.literal('rollback'),
    stack: Stack,
    to: z
      .string()
      .regex(/^(previous|[a-z0-9][a-z0-9-]{7,63})$/, 'Expected "previous" or the id of a run')
      .optional()
      .describe('previous (the default), or the id of the run whose state is to come back.'),
    restore_data: z
      .boolean()
      .optional()
      .describe(
        'Also brings back the backups that the rollout being left behind had taken first (docker_volumes and sqlite), while the stack is stopped.',
      ),
    compose: ComposePath,
    verify: Verify.optional(),
    ...commonFields,
  })
  .describe('Brings a stack back to what an earlier run left: files and images.');
export type Rollback = z.infer<typeof Rollback>;
