import { Failure } from '../plan/failure.ts';

/** A place in a config, or the name of a part of it: nothing that a value could be mistaken for. */
const NAME = String.raw`"?[A-Za-z0-9][\w.-]{0,79}"?`;
const PLACE = String.raw`(?:services|volumes|networks|configs|secrets|include|name|version)(?:\.[\w-]{1,64}(?:\.\d+)?){0,8}`;

/** Compose's messages that hold names only. Its other messages can hold values, and are not shown. */
const SAFE_SHAPES = [
  new RegExp(
    `${PLACE}:? (?:Additional property ${NAME} is not allowed|additional properties '?${NAME}'? not allowed)`,
    'i',
  ),
  new RegExp(
    `${PLACE} must be (?:an? )?(?:string|list|mapping|array|object|integer|number|boolean|map|null)(?:(?:,| or) (?:an? )?[a-z]+)*`,
    'i',
  ),
  new RegExp(
    `${PLACE} (?:array items|items) at index \\d+ and \\d+ must be unique|${PLACE} contains non-unique items, please remove duplicates from list`,
    'i',
  ),
  new RegExp(`${PLACE} is required|missing propert(?:y|ies):? '?${NAME}'?`, 'i'),
  new RegExp(
    `service ${NAME} (?:depends on|refers to|uses) undefined (?:service|volume|network|config|secret) ${NAME}`,
    'i',
  ),
  new RegExp(
    `service ${NAME} (?:has neither an image nor a build context specified|depends on unknown service ${NAME})`,
    'i',
  ),
  new RegExp(`(?:undefined|no such) (?:service|volume|network|config|secret):? ${NAME}`, 'i'),
  new RegExp(`dependency cycle detected: ${NAME}(?: -> ${NAME})*`, 'i'),
  new RegExp(`service ${NAME} declares mutually exclusive \`network_mode\` and \`networks\``, 'i'),
  /empty compose file|no service selected|top-level object must be a mapping/i,
];

/** Makes the failure of a config that compose rejects. `root` is the folder of the copies of what is in `dir`. */
export function describeRejection(stderr: string, root: string, dir: string): Failure {
  const text = stderr.replaceAll(root, '');
  const reasons = SAFE_SHAPES.flatMap(shape => shape.exec(text)?.[0] ?? []);
  if (reasons.length === 0) {
    return new Failure(
      'compose-invalid',
      'Compose rejects the compose file. Its message is not shown, because it can quote values.',
      `Run "docker compose config --quiet" in ${dir} on the host to read it. Nothing was started.`,
    );
  }
  return new Failure(
    'compose-invalid',
    `The compose file is not valid: ${reasons.slice(0, 3).join(', and ')}.`,
    'Correct the compose file. Nothing was started.',
  );
}
