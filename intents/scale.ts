import { z } from 'zod';
import { AbsolutePath, common, RelativePath, Service, Stack } from './names.ts';

/** Sets how many containers one service has, and leaves the others alone. */
export const Scale = z
  .strictObject({
    action: z.literal('scale'),
    stack: Stack,
    service: Service,
    replicas: z.int().min(0).max(100).describe('How many containers: 0 to 100. 0 stops the service.'),
    compose: z
      .union([AbsolutePath, RelativePath], {
        error:
          'Expected a path: absolute ("/opt/stacks/stack-ai/docker-compose.yml") or relative to the stack’s folder, without ".."',
      })
      .optional()
      .describe(
        'The compose file: absolute, or relative to the stack’s folder. Without it: the one that compose finds there.',
      ),
    ...common,
  })
  .describe('Sets how many containers one service has, and leaves the others alone.');
export type Scale = z.infer<typeof Scale>;
