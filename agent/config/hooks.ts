import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { SecretFile } from './backups.ts';
import { ConfigName } from './trust.ts';

/** The field of each preset's payload that names the event, its values, and the events that count by default. */
export const PRESETS = {
  uptime_kuma: { path: 'heartbeat.status', events: { down: 0, up: 1 }, usual: ['down'] },
  healthchecks: { path: 'status', events: { down: 'down', up: 'up' }, usual: ['down'] },
  alertmanager: { path: 'status', events: { firing: 'firing', resolved: 'resolved' }, usual: ['firing'] },
  registry_package: { path: 'action', events: { published: 'published', updated: 'updated' }, usual: ['published'] },
  generic: undefined,
} as const;

const Scalar = z.union([z.string(), z.number(), z.boolean()]);
const JsonPath = z.string().regex(/^[\w-]+(\.[\w-]+){0,9}$/, 'Expected a path such as "alerts.0.labels.service"');

/** A webhook of agent.yaml. */
export const Hook = z
  .strictObject({
    name: ConfigName,
    intent: ConfigName.describe('A file in intents_dir, without its extension.'),
    preset: z
      .enum(Object.keys(PRESETS) as [keyof typeof PRESETS])
      .default('generic')
      .describe('The program that sends the payload.'),
    on: z
      .array(z.string())
      .min(1)
      .optional()
      .describe('Events of the preset that count: down, up; firing, resolved; published, updated.'),
    hmac_file: SecretFile.optional().describe('The secret of X-Hub-Signature-256.'),
    token_file: SecretFile.optional().describe('The token of "Authorization: Bearer …".'),
    path_file: SecretFile.optional().describe('The secret at the end of the address: /hooks/NAME/SECRET.'),
    when: z
      .array(
        z.strictObject({
          path: JsonPath,
          is: z.union([z.array(Scalar).min(1), Scalar.transform(value => [value])]),
        }),
      )
      .default([])
      .describe('Further conditions on the payload; the agent ignores a payload that does not meet them.'),
    params: z
      .record(
        z.string(),
        z.union([
          Scalar,
          z.strictObject({
            from: JsonPath,
            pattern: z.string().min(1).max(500).refine(isPattern, { error: 'Expected a regular expression' }),
          }),
        ]),
      )
      .default({})
      .describe('Fixed values, or values of the payload that match the whole pattern.'),
    cooldown: Duration.default('5m').describe('The time after a run in which no other run starts.'),
    max_per_hour: z.int().min(1).max(1000).default(6),
  })
  .refine(hook => [hook.hmac_file, hook.token_file, hook.path_file].filter(one => one !== undefined).length === 1, {
    error: 'Expected one of hmac_file, token_file and path_file',
  })
  .refine(({ preset, on }) => on?.every(event => event in (PRESETS[preset]?.events ?? {})) ?? true, {
    error: 'Expected events of the preset',
    path: ['on'],
  });
export type Hook = z.infer<typeof Hook>;

function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'v');
    return true;
  } catch {
    return false;
  }
}
