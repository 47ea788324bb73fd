import { z } from 'zod';
import { Duration } from './duration.ts';

/** Names become folder names and arguments on the host: they never begin with a dash or a dot, and hold no slash. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const name = (what: string) =>
  z
    .string()
    .regex(NAME, `Expected the name of a ${what}: letters, digits, "_", "." and "-", beginning with a letter or digit`);

export const Stack = name('stack').describe('The stack: the name of its folder under the host’s stacks root.');
export const Service = name('service').describe('A service of the stack’s compose file.');
export const Container = name('container');
export const Storage = name('storage');

/** No segment may climb, and no control character may hide in a path. */
const climbs = (path: string) => path.split('/').some(segment => segment === '..' || segment === '.');
const hasControl = (path: string) => [...path].some(char => char < ' ' || char === '\u007f' || char === '\\');

export const AbsolutePath = z
  .string()
  .max(1024)
  .refine(path => path.startsWith('/') && !climbs(path) && !hasControl(path), {
    error: 'Expected an absolute path such as "/opt/stacks/stack-media", without "." or ".." in it',
  });

export const RelativePath = z
  .string()
  .min(1)
  .max(1024)
  .refine(path => !/^[/-]/.test(path) && !climbs(path) && !hasControl(path), {
    error:
      'Expected a relative path such as "stacks/media", without "." or ".." in it and not beginning with "/" or "-"',
  });

/** Fields that every intent may have. */
export const common = {
  id: name('document').optional().describe('A name for this document, unique in its file.'),
  label_required: z
    .string()
    .min(1)
    .max(50)
    .optional()
    .describe('The label that the merged pull request must bear. The host’s policy may require more.'),
  host: name('host').optional().describe('Which agent is meant, where the action is given several.'),
  timeout: Duration.optional().describe('How long each long step (pull, up, wait until healthy) may take.'),
};

export const ComposePath = z
  .union([AbsolutePath, RelativePath], {
    error:
      'Expected a path: absolute ("/opt/stacks/stack-media/docker-compose.yml") or relative to the stack’s folder, without ".."',
  })
  .optional()
  .describe(
    'The compose file: absolute, or relative to the stack’s folder. Without it: the one that compose finds there.',
  );

export const OnFailure = z
  .enum(['rollback', 'stop'])
  .optional()
  .describe('What follows a failure: rollback (the default) brings back what ran before; stop leaves it as it is.');
