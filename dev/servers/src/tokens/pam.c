/* A PAM module that checks RDS IAM tokens as RDS does, all but the value of the signature.
 *
 * The same file is preloaded into the database server: there its `pam_start` makes libpam
 * look for services in the folder CLAVIGER_TOKENS instead of /etc/pam.d. The machine's own PAM is
 * not touched, and no root is needed.
 *
 * That folder also contains `checks`, to which each check adds a line, and files by which a test
 * makes checks fail: `reject-everything`, and `expired-sessions/KEY` with the time, in
 * milliseconds, at which the session of that access key expires.
 *
 * The few declarations of libpam's are here because its headers are seldom installed.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct pam_handle pam_handle_t;
struct pam_conv;
enum { PAM_SUCCESS = 0, PAM_AUTHTOK = 6, PAM_AUTH_ERR = 7 };
int pam_start_confdir(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);
int pam_get_user(pam_handle_t *, const char **, const char *);
int pam_get_authtok(pam_handle_t *, int, const char **, const char *);

/* Longest lifetime that RDS grants, and how far a client's clock may be ahead, in seconds. */
enum { LONGEST = 900, AHEAD = 300 };

enum { ACTION, DBUSER, ALGORITHM, CREDENTIAL, DATE, EXPIRES, HEADERS, SIGNATURE, COUNT };
static const char *const NAMES[COUNT] = {
    "Action",     "DBUser",        "X-Amz-Algorithm",     "X-Amz-Credential",
    "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
};

/* The fields of a token; -1 and "-" stand for missing ones. */
struct check {
    long long now, signed_at; /* milliseconds since 1970 */
    int expires;              /* seconds */
    char key[130];
};

/* Undoes the percent-encoding of a query string, in which a plus is a space. */
static int decode(char *text) {
    char *to = text;
    for (; *text; text++) {
        char byte = *text == '+' ? ' ' : *text;
        if (byte == '%') {
            char hex[3] = {text[1], text[1] ? text[2] : 0, 0};
            if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1])) return 0;
            byte = (char)strtol(hex, NULL, 16);
            if (!byte) return 0;
            text += 2;
        }
        *to++ = byte;
    }
    *to = 0;
    return 1;
}

static int consists_of(const char *text, size_t length, int (*is)(int)) {
    if (strlen(text) != length) return 0;
    for (; *text; text++)
        if (!is((unsigned char)*text)) return 0;
    return 1;
}

/* The characters of access key ids. */
static int is_word(int byte) { return isalnum(byte) || byte == '_'; }

/* `host:port` without characters that would need encoding. */
static int is_endpoint(char *endpoint) {
    char *port = strrchr(endpoint, ':');
    if (!port || port == endpoint) return 0;
    size_t host = (size_t)(port - endpoint);
    if (strcspn(endpoint, "/?#@&=%\\ ") < host) return 0;
    if (memchr(endpoint, ':', host) && (endpoint[0] != '[' || port[-1] != ']')) return 0;
    port++;
    return consists_of(port, strlen(port), isdigit) && strlen(port) <= 5 && atoi(port) >= 1 && atoi(port) <= 65535;
}

/* KEY/20260102/REGION/rds-db/aws4_request */
static int is_credential(char *credential, const char *date, struct check *check) {
    char *rest = credential, *part[5];
    for (int i = 0; i < 5; i++) part[i] = strsep(&rest, "/");
    if (rest || !part[4] || !*part[2]) return 0;
    size_t length = strlen(part[0]);
    if (length < 1 || length >= sizeof check->key || !consists_of(part[0], length, is_word)) return 0;
    strcpy(check->key, part[0]);
    return strlen(part[1]) == 8 && !strncmp(part[1], date, 8) && !strcmp(part[3], "rds-db") && !strcmp(part[4], "aws4_request");
}

/* 20260102T030405Z */
static int read_date(const char *date, struct check *check) {
    struct tm tm = {0};
    const char *end = strlen(date) == 16 ? strptime(date, "%Y%m%dT%H%M%SZ", &tm) : NULL;
    if (!end || *end) return 0;
    check->signed_at = (long long)timegm(&tm) * 1000;
    return 1;
}

static int session_has_expired(const char *folder, const struct check *check) {
    char path[4096];
    long long at = 0;
    snprintf(path, sizeof path, "%s/expired-sessions/%s", folder, check->key);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    int read = fscanf(file, "%lld", &at);
    fclose(file);
    return read == 1 && at <= check->now;
}

/* Returns why the token is rejected for this user; NULL if it is accepted. */
static const char *rejection_reason(char *token, const char *user, const char *folder, struct check *check) {
    char *value[COUNT] = {0}, *query = strstr(token, "/?"), *pair;
    if (!query) return "no host:port/? before the parameters";
    *query = 0;
    for (query += 2; (pair = strsep(&query, "&"));) {
        char *equals = strchr(pair, '=');
        if (!equals) return "a parameter without a value";
        *equals = 0;
        if (!decode(equals + 1)) return "a percent-encoding that is invalid";
        for (int i = 0; i < COUNT; i++) {
            if (strcmp(pair, NAMES[i])) continue;
            if (value[i]) return "a parameter that comes twice";
            value[i] = equals + 1;
        }
    }
    /* First the fields for the log, then the verdict. */
    int dated = value[DATE] && read_date(value[DATE], check);
    int credible = value[CREDENTIAL] && dated && is_credential(value[CREDENTIAL], value[DATE], check);
    if (value[EXPIRES] && strlen(value[EXPIRES]) < 10 && consists_of(value[EXPIRES], strlen(value[EXPIRES]), isdigit)) check->expires = atoi(value[EXPIRES]);

    char path[4096];
    snprintf(path, sizeof path, "%s/reject-everything", folder);
    if (!access(path, F_OK)) return "all tokens are rejected";
    if (!is_endpoint(token)) return "not exactly host:port/? before the parameters";
    if (!value[ACTION] || strcmp(value[ACTION], "connect")) return "Action is not connect";
    if (!value[DBUSER] || strcmp(value[DBUSER], user)) return "DBUser is another user";
    if (!value[ALGORITHM] || strcmp(value[ALGORITHM], "AWS4-HMAC-SHA256")) return "X-Amz-Algorithm is not AWS4-HMAC-SHA256";
    if (!dated) return "X-Amz-Date is not a date";
    if (!credible) return "X-Amz-Credential is not for rds-db on that day";
    if (!value[HEADERS] || strcmp(value[HEADERS], "host")) return "X-Amz-SignedHeaders is not host";
    if (!value[SIGNATURE] || !consists_of(value[SIGNATURE], 64, isxdigit)) return "X-Amz-Signature is not a signature";
    if (check->expires < 1 || check->expires > LONGEST) return "X-Amz-Expires is not from 1 to 900";
    if (check->signed_at > check->now + AHEAD * 1000LL) return "X-Amz-Date is in the future";
    if (check->now >= check->signed_at + check->expires * 1000LL) return "the token has expired";
    if (session_has_expired(folder, check)) return "the signing session has expired";
    return NULL;
}

/* Percent-encodes the characters that separate the fields of a line. */
static void write_name(FILE *line, const char *name) {
    for (; *name; name++) {
        unsigned char byte = (unsigned char)*name;
        fprintf(line, byte <= ' ' || byte == '%' || byte == 127 ? "%%%02X" : "%c", byte);
    }
}

/* Logs a check without its token, in one write so that lines of two connections do not mix. */
static int log_check(const char *folder, const struct check *check, const char *user, size_t length, const char *reason) {
    char path[4096], *text = NULL;
    size_t size = 0;
    FILE *line = open_memstream(&text, &size);
    if (!line) return 0;
    fprintf(line, "%lld %s ", check->now, reason ? "rejected" : "accepted");
    write_name(line, user);
    if (check->signed_at < 0) fprintf(line, " -");
    else fprintf(line, " %lld", check->now - check->signed_at);
    fprintf(line, " %zu %s %d %s\n", length, check->key, check->expires, reason ? reason : "");
    fclose(line);
    snprintf(path, sizeof path, "%s/checks", folder);
    int file = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    int written = file >= 0 && write(file, text, size) == (ssize_t)size;
    if (file >= 0) close(file);
    free(text);
    return written;
}

int pam_sm_authenticate(pam_handle_t *handle, int flags, int count, const char **arguments) {
    (void)flags, (void)count, (void)arguments;
    const char *folder = getenv("CLAVIGER_TOKENS"), *user = NULL, *token = NULL, *reason;
    struct check check = {0, -1, -1, "-"};
    struct timespec now;
    if (!folder || pam_get_user(handle, &user, NULL) != PAM_SUCCESS || !user) return PAM_AUTH_ERR;
    if (pam_get_authtok(handle, PAM_AUTHTOK, &token, NULL) != PAM_SUCCESS || !token) return PAM_AUTH_ERR;
    clock_gettime(CLOCK_REALTIME, &now);
    check.now = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    char *copy = strdup(token);
    if (!copy) return PAM_AUTH_ERR;
    reason = rejection_reason(copy, user, folder, &check);
    free(copy);
    /* A token that is not counted is rejected, because tests rely on the count. */
    return log_check(folder, &check, user, strlen(token), reason) && !reason ? PAM_SUCCESS : PAM_AUTH_ERR;
}

int pam_sm_setcred(pam_handle_t *handle, int flags, int count, const char **arguments) {
    (void)handle, (void)flags, (void)count, (void)arguments;
    return PAM_SUCCESS;
}

int pam_sm_acct_mgmt(pam_handle_t *handle, int flags, int count, const char **arguments) {
    (void)handle, (void)flags, (void)count, (void)arguments;
    return PAM_SUCCESS;
}

int pam_start(const char *service, const char *user, const struct pam_conv *conversation, pam_handle_t **handle) {
    return pam_start_confdir(service, user, conversation, getenv("CLAVIGER_TOKENS"), handle);
}
