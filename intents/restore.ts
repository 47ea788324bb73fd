import { z } from 'zod';
import { Duration } from './duration.ts';
import { AbsolutePath, Container, common, OnFailure, Service, Stack } from './names.ts';
import { Verify } from './verify.ts';

/** Brings a folder or volume back from a backup. */
export const Restore = z
  .strictObject({
    action: z.literal('restore'),
    of: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'Expected the name of a backup')
      .describe('The backup’s name: its "id", or the name of its file.'),
    from: AbsolutePath.describe('The "destination" of the backup.'),
    at: z
      .string()
      .regex(/^(latest|[A-Za-z0-9][A-Za-z0-9.-]{7,63})$/, 'Expected "latest", a backup’s time or the id of a run')
      .optional()
      .describe('latest (the default), the time that names a backup (20261121T060000.000Z), or the run that made it.'),
    to: AbsolutePath.optional().describe('The folder that is restored. Or to_container and to_path.'),
    to_container: Container.optional(),
    to_path: AbsolutePath.optional().describe('The path inside to_container.'),
    confirm_overwrite: z
      .boolean()
      .optional()
      .describe('What is there now may be replaced. It is kept beside, see docs/backups.md.'),
    stack: Stack.optional().describe('The stack of stop_services.'),
    stop_services: z
      .array(Service)
      .min(1)
      .max(100)
      .optional()
      .describe('Services of the stack that are stopped meanwhile.'),
    stall_timeout: Duration.optional(),
    verify: Verify.optional(),
    on_failure: OnFailure,
    ...common,
  })
  .refine(intent => (intent.to === undefined) !== (intent.to_container === undefined), {
    error: 'Expected either "to" or "to_container" with "to_path"',
    path: ['to'],
  })
  .refine(intent => (intent.to_container === undefined) === (intent.to_path === undefined), {
    error: '"to_container" and "to_path" belong together',
    path: ['to_path'],
  })
  .refine(intent => (intent.stop_services === undefined && intent.verify === undefined) || intent.stack !== undefined, {
    error: 'Expected "stack" beside "stop_services" and "verify"',
    path: ['stack'],
  })
  .describe('Brings a folder or volume back from a backup of docker_volumes.');
export type Restore = z.infer<typeof Restore>;
