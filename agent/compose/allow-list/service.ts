import { build, dependencies, deploy, develop, healthcheck, restart } from './deploy.ts';
import {
  amount,
  custom,
  documented,
  duration,
  flag,
  form,
  granted,
  isNode,
  type KeyRule,
  list,
  map,
  matching,
  never,
  object,
  oneOf,
  orNull,
  printable,
  refuse,
  text,
  textOrNull,
} from './key-rule.ts';
import { labels } from './labels.ts';
import { exposed, fileMounts, mounts, ports, tmpfs } from './mounts.ts';
import { checkContainer, isName, isService, namespace, networkMode } from './names.ts';
import {
  addedCapabilities,
  annotations,
  blockIo,
  command,
  deviceRequests,
  deviceRules,
  devices,
  droppedCapabilities,
  hooks,
  logging,
  outOfMemoryKill,
  outOfMemoryScore,
  privileged,
  realTime,
  runtime,
  securityOptions,
  storageOptions,
  sysctls,
  ulimits,
} from './privileges.ts';

const texts = list(text);
const READ_LATER = 'compose would read the file after the check';

const networkOptions = granted('network-drivers', map(text), {
  harmless: value => isNode(value) && Object.keys(value).length === 0,
  reason: ' gives options to the network’s driver',
});

/** `networks` of a service: the networks themselves are checked at the top level. */
const attachments: KeyRule = map(
  orNull(
    object({
      aliases: texts,
      interface_name: text,
      ipv4_address: text,
      ipv6_address: text,
      link_local_ips: texts,
      mac_address: text,
      driver_opts: networkOptions,
      priority: amount,
      gw_priority: amount,
    }),
  ),
);

const links: KeyRule = list(
  custom('nothing', (value, at) => {
    const [service = ''] = String(value).split(':');
    if (!isService(service, at)) refuse(at, ` names the service ${printable(service)}, which the file does not have`);
  }),
);

const externalLinks: KeyRule = list(
  custom('list `containers`', (value, at) => checkContainer(String(value).split(':')[0] ?? '', at)),
);

/** Volumes of another service. Those of a container by name can belong to another stack, and can be any folder. */
const volumesFrom: KeyRule = list(
  custom('nothing for services; never a container', (value, at) => {
    const [service = '', mode = 'rw', ...rest] = String(value).split(':');
    if (!isService(service, at) || !['ro', 'rw'].includes(mode) || rest.length > 0)
      refuse(at, ` is not a service of the file: ${printable(value)}`);
  }),
);

/** The keys of a service. A key that is not in this table is refused. */
export const service: KeyRule = object({
  annotations,
  attach: flag,
  blkio_config: blockIo,
  build,
  cap_add: addedCapabilities,
  cap_drop: droppedCapabilities,
  cgroup: documented('nothing for private; `host-namespaces` for host', namespace('', 'private')),
  cgroup_parent: never('it leaves the limits of containers', 'Use "cpus" and "mem_limit"'),
  command,
  configs: fileMounts('configs'),
  container_name: form('a name of the engine', isName),
  cpu_count: amount,
  cpu_percent: amount,
  cpu_period: amount,
  cpu_quota: amount,
  cpu_rt_period: realTime,
  cpu_rt_runtime: realTime,
  cpu_shares: amount,
  cpus: amount,
  cpuset: text,
  credential_spec: never('it is for Windows'),
  depends_on: dependencies,
  deploy,
  develop,
  device_cgroup_rules: deviceRules,
  devices,
  dns: texts,
  dns_opt: texts,
  dns_search: texts,
  domainname: text,
  entrypoint: command,
  env_file: never(READ_LATER),
  environment: map(textOrNull),
  expose: exposed,
  extends: never(READ_LATER),
  external_links: externalLinks,
  extra_hosts: texts,
  gpus: deviceRequests,
  group_add: list(form('a group', value => typeof value === 'string' || Number.isInteger(value))),
  healthcheck,
  hostname: text,
  image: text,
  init: flag,
  ipc: namespace('', 'none', 'private', 'shareable'),
  isolation: oneOf('', 'default'),
  label_file: never(READ_LATER),
  labels,
  links,
  logging,
  mac_address: text,
  mem_limit: amount,
  mem_reservation: amount,
  mem_swappiness: amount,
  memswap_limit: amount,
  models: never('compose starts a program of the host for it', 'Use a service with an image'),
  network_mode: networkMode,
  networks: attachments,
  oom_kill_disable: outOfMemoryKill,
  oom_score_adj: outOfMemoryScore,
  pid: namespace('', 'private'),
  pids_limit: amount,
  platform: text,
  ports,
  post_start: hooks,
  pre_start: never('the agent does not see its containers', 'Use a service and "depends_on"'),
  pre_stop: hooks,
  privileged,
  profiles: texts,
  provider: never('compose starts a program of the host for it', 'Use a service with an image'),
  pull_policy: matching(
    /^(always|never|build|if_not_present|missing|refresh|daily|weekly|every_[0-9wdhms]{1,30}|)$/,
    'a policy of compose',
  ),
  pull_refresh_after: duration,
  read_only: flag,
  restart,
  runtime,
  scale: amount,
  secrets: fileMounts('secrets'),
  security_opt: securityOptions,
  shm_size: amount,
  stdin_open: flag,
  stop_grace_period: duration,
  stop_signal: text,
  storage_opt: storageOptions,
  sysctls,
  tmpfs: list(tmpfs),
  tty: flag,
  ulimits,
  use_api_socket: granted('docker-socket', flag, {
    reason: ' hands over the engine’s socket and all registry logins',
  }),
  user: text,
  userns_mode: namespace('', 'private'),
  uts: namespace(''),
  volumes: mounts,
  volumes_from: volumesFrom,
  working_dir: text,
});
