/** A refusal, with the gateway's message. */
export class Refusal extends Error {
  constructor(answer, body) {
    super(body.message);
    this.status = answer.status;
    /** For programs: `expired_token`, `forbidden`, `rate_limited`, … */
    this.code = body.code;
    /** For the user to report to the operator of the gateway. */
    this.requestId = answer.headers.get("x-request-id");
    /** After how many seconds a retry makes sense; 0 if the response does not say. */
    this.retryAfter = Number(answer.headers.get("retry-after") ?? 0);
  }
}

/** The gateway, for a page. `credential` returns the token of the signed-in user. */
export class Whiteboard {
  constructor(gateway, credential) {
    this.gateway = gateway;
    this.credential = credential;
  }

  /** Returns the whiteboard service's response, or throws a `Refusal`. */
  async call(method, path, body) {
    const headers = {};
    const credential = await this.credential();
    if (credential) headers.authorization = `Bearer ${credential}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const answer = await fetch(this.gateway + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit", // no cookies: the gateway takes none
    });
    const said = await answer.json();
    if (!answer.ok) throw new Refusal(answer, said);
    return said;
  }

  /** A Room token, for the whiteboard SDK's `joinRoom({ uuid, roomToken })`. */
  roomToken(room, { role = "writer", lifespan = 3_600_000 } = {}) {
    return this.call("POST", `/v5/tokens/rooms/${encodeURIComponent(room)}`, { role, lifespan });
  }

  /** A room, as the whiteboard service describes it. */
  room(room) {
    return this.call("GET", `/v5/rooms/${encodeURIComponent(room)}`);
  }
}
