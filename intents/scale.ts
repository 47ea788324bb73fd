import { z } from 'zod';
import { ComposePath, commonFields, Service, Stack } from './fields.ts';
import { Verify } from './verify.ts';

/** Sets how many containers one service has, and leaves the others alone. */
export const Scale = z
  .strictObject({
    action: z.literal('scale'),
    stack: Stack,
    service: Service,
    replicas: z.int().min(0).max(100).describe('How many containers: 0 to 100. 0 stops the service.'),
    compose: ComposePath,
    verify: Verify.optional(),
    ...commonFields,
  })
  .describe('Sets how many containers one service has, and leaves the others alone.');
export type Scale = z.infer<typeof Scale>;
