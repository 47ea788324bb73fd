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

const Fleet = z
  .string()
  .regex(
    /^(tag:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/,
    'Expected the name of a host, or a tag of hosts such as "tag:edge"',
  );

/** Fields that every intent may have. */
export const commonFields = {
  id: name('document').optional().describe('A name for this document, unique in its file.'),
  label_required: z
    .string()
    .min(1)
    .max(50)
    .optional()
    .describe('The label that the merged pull request must bear. The host’s policy may require more.'),
  host: name('host').optional().describe('Which agent is meant, where the action is given several.'),
  hosts: z
    .union([Fleet, z.array(Fleet).min(1).max(500)])
    .optional()
    .describe('In place of "host": several of them, by name or by tag ("tag:edge"), one wave after another.'),
  max_unavailable: z
    .union([
      z.int().min(1).max(500),
      z.string().regex(/^([1-9]\d?|100)%$/, 'Expected a number of hosts, or a share of them such as "25%"'),
    ])
    .optional()
    .describe('How many of "hosts" a wave holds: a number, or a share such as 25%. Default: 1.'),
  canary: z.int().min(1).max(500).optional().describe('So many of "hosts" come first, as a wave of their own.'),
  timeout: Duration.optional().describe('How long each long step (pull, up, wait until healthy) may take.'),
  needs: z
    .array(name('document'))
    .max(100)
    .optional()
    .describe(
      'The ids of documents of this file that must have succeeded first, in place of all before it; [] begins at once. In a rollout also names of backups (their "id" or the name of their file) that must have been verified: earlier in this run, or within max_age.',
    ),
  if: z
    .enum(['always', 'failed', 'succeeded'])
    .optional()
    .describe('Begin only if what is before it has succeeded, if something of it has failed, or always.'),
  on_failure: z
    .enum(['rollback', 'stop', 'continue'])
    .optional()
    .describe(
      'What follows a failure. Without it, what the document changed is brought back and the run ends. rollback: what the file’s earlier documents changed as well. stop: it stays as it is. continue: brought back, and the run goes on with what does not need it.',
    ),
  max_parallel: z
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('In one document of a file: how many of its documents may go on at the same time. Default: 4.'),
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
