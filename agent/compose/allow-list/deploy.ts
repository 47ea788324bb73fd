import {
  amount,
  documented,
  duration,
  flag,
  form,
  type KeyRule,
  list,
  map,
  matching,
  object,
  oneOf,
  orNull,
  text,
  textOrNull,
} from './key-rule.ts';
import { labels } from './labels.ts';
import { fileMounts } from './mounts.ts';
import { deviceRequests, hooks, ulimits } from './privileges.ts';

const texts = list(text);

/** A text or a list: compose renders both. */
const textOrTexts: KeyRule = form(
  'a text or a list of texts',
  value => typeof value === 'string' || (Array.isArray(value) && value.every(one => typeof one === 'string')),
);

const updates = object({
  parallelism: amount,
  delay: duration,
  failure_action: text,
  monitor: duration,
  max_failure_ratio: amount,
  order: oneOf('start-first', 'stop-first'),
});

/** `deploy`: most of it means nothing without swarm. */
export const deploy: KeyRule = orNull(
  object({
    mode: oneOf('replicated', 'global'),
    endpoint_mode: text,
    replicas: amount,
    labels,
    update_config: updates,
    rollback_config: updates,
    resources: object({
      limits: object({ cpus: amount, memory: amount, pids: amount }),
      reservations: object({
        cpus: amount,
        memory: amount,
        devices: deviceRequests,
        generic_resources: list(object({ discrete_resource_spec: object({ kind: text, value: amount }) })),
      }),
    }),
    restart_policy: object({ condition: text, delay: duration, max_attempts: amount, window: duration }),
    placement: object({
      constraints: texts,
      preferences: list(object({ spread: text })),
      max_replicas_per_node: amount,
    }),
  }),
);

export const healthcheck: KeyRule = object({
  test: textOrTexts,
  disable: flag,
  interval: duration,
  timeout: duration,
  retries: amount,
  start_period: duration,
  start_interval: duration,
});

/** `build`: the agent never builds, and passes `--no-build`. */
export const build: KeyRule = documented(
  'nothing: the agent never builds',
  object({
    context: text,
    dockerfile: text,
    dockerfile_inline: text,
    entitlements: texts,
    args: map(textOrNull),
    ssh: form('a map or a list', value => typeof value === 'object'),
    labels,
    cache_from: texts,
    cache_to: texts,
    no_cache: flag,
    no_cache_filter: texts,
    additional_contexts: map(text),
    network: text,
    provenance: form('a text or a flag', value => ['string', 'boolean'].includes(typeof value)),
    sbom: form('a text or a flag', value => ['string', 'boolean'].includes(typeof value)),
    pull: flag,
    target: text,
    shm_size: amount,
    extra_hosts: texts,
    isolation: text,
    privileged: flag,
    secrets: fileMounts('secrets'),
    tags: texts,
    ulimits,
    platforms: texts,
  }),
);

/** `develop`: only `docker compose watch` reads it. */
export const develop: KeyRule = documented(
  'nothing: the agent never watches',
  orNull(
    object({
      watch: list(
        object({
          path: text,
          action: text,
          target: text,
          ignore: texts,
          include: texts,
          initial_sync: flag,
          exec: object(hooks.each?.keys ?? {}),
        }),
      ),
    }),
  ),
);

export const dependencies: KeyRule = map(
  object({
    condition: oneOf('service_started', 'service_healthy', 'service_completed_successfully'),
    required: flag,
    restart: flag,
  }),
);

export const restart: KeyRule = matching(
  /^(no|always|unless-stopped|on-failure(:[0-9]{1,6})?|)$/,
  'no, always, unless-stopped or on-failure',
);
