import { z } from 'zod';
import { ComposePath, commonFields, Service, Stack } from './fields.ts';
import { Verify } from './verify.ts';

/** Sets the number of containers of one service. Other services stay as they are. */
export const Scale = z
  .strictObject({
    action: z.literal('scale'),
    stack: Stack,
    service: Service,
    replicas: z.int().min(0).max(100).describe('The number of containers: 0 to 100. 0 stops the service.'),
    compose: ComposePath,
    verify: Verify.optional(),
    ...commonFields,
  })
  .describe('Sets the number of containers of one service. Other services stay as they are.');
export type Scale = z.infer<typeof Scale>;
