import { z } from 'zod';
import { Duration } from './duration.ts';

/** Names become folder names and arguments on the host: they never begin with a dash or a dot, and contain no slash. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const name = (what: string) =>
  z
    .string()
    .regex(NAME, `Expected the name of a ${what}: letters, digits, "_", "." and "-", beginning with a letter or digit`);

export const Stack = name('stack').describe('The stack: the name of its folder under the host’s stacks root.');
export const Service = name('service').describe('A service of the stack’s compose file.');
export const Container = name('container');
export const Storage = name('storage');

/** Paths have no segment "." or "..", and no control character. */
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
    .describe('The label that the merged pull request must have. The policy of the host may require more.'),
  host: name('host').optional().describe('The host that runs the document, if the action has several agents.'),
  hosts: z
    .union([Fleet, z.array(Fleet).min(1).max(500)])
    .optional()
    .describe('Several hosts in place of "host": by name or by tag ("tag:edge"), one wave after another.'),
  max_unavailable: z
    .union([
      z.int().min(1).max(500),
      z.string().regex(/^([1-9]\d?|100)%$/, 'Expected a number of hosts, or a share of them such as "25%"'),
    ])
    .optional()
    .describe('The number of "hosts" in a wave, or a share such as 25%. Default: 1.'),
  canary: z.int().min(1).max(500).optional().describe('The number of "hosts" in the first wave, before the others.'),
  timeout: Duration.optional().describe('The time limit of each long step (pull, up, wait until healthy).'),
  needs: z
    .array(name('document'))
    .max(100)
    .optional()
    .describe(
      'Ids of documents of this file that must succeed first, in place of all documents before it; [] starts at once. A rollout may also need verified backups, by their "id" or the name of their file: from earlier in this run, or not older than max_age.',
    ),
  if: z
    .enum(['always', 'failed', 'succeeded'])
    .optional()
    .describe('Starts only if the documents before it have succeeded, if one of them has failed, or always.'),
  on_failure: z
    .enum(['rollback', 'stop', 'continue'])
    .optional()
    .describe(
      'The reaction to a failure. Without it, the agent undoes the changes of the document and ends the run. rollback: it also undoes the earlier documents of the file. stop: it leaves the changes as they are. continue: it undoes the changes and runs the documents that do not need this one.',
    ),
  max_parallel: z
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('In one document of a file: the number of its documents that may run at the same time. Default: 4.'),
};

export const ComposePath = z
  .union([AbsolutePath, RelativePath], {
    error:
      'Expected a path: absolute ("/opt/stacks/stack-media/docker-compose.yml") or relative to the stack’s folder, without ".."',
  })
  .optional()
  .describe(
    'The compose file: absolute, or relative to the stack’s folder. Default: the file that compose finds there.',
  );
