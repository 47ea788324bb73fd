import { z } from 'zod';
import { ComposePath, commonFields, Stack } from './fields.ts';
import { Verify } from './verify.ts';

/** Brings a stack back to the state that an earlier run left. */
export const Rollback = z
  .strictObject({
    action: z.literal('rollback'),
    stack: Stack,
    to: z
      .string()
      .regex(/^(previous|[a-z0-9][a-z0-9-]{7,63})$/, 'Expected "previous" or the id of a run')
      .optional()
      .describe('previous (the default), or the id of the run whose state is restored.'),
    restore_data: z
      .boolean()
      .optional()
      .describe(
        'Also restores the backups that the undone rollout had made first (docker_volumes and sqlite), while the stack is stopped.',
      ),
    compose: ComposePath,
    verify: Verify.optional(),
    ...commonFields,
  })
  .describe('Brings a stack back to the state that an earlier run left: files and images.');
export type Rollback = z.infer<typeof Rollback>;
