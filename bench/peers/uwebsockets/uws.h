// The part of uWebSockets's C interface that main.cpp uses.
//
// The package that ships the compiled library carries no C header, only the same declarations for Python's cffi (its
// `native.py`). These state that interface in C++. Its first argument everywhere says whether TLS is used.
#pragma once

#include <cstddef>

extern "C" {

struct App;
struct Socket;
struct Response;
struct Request;
struct SocketContext;
struct ListenSocket;

enum Opcode { OPCODE_TEXT = 1, OPCODE_BINARY = 2 };
enum SendStatus { SEND_BACKPRESSURE, SEND_SUCCESS, SEND_DROPPED };

// Makes the library fail to listen where another process already does, instead of sharing the port with it.
constexpr int LISTEN_EXCLUSIVE_PORT = 1;

struct ListenConfig {
    int port;
    const char *host;
    int options;
};

using SocketHandler = void (*)(Socket *, void *user_data);
using MessageHandler = void (*)(Socket *, const char *message, size_t length, Opcode, void *user_data);
using ControlHandler = void (*)(Socket *, const char *message, size_t length, void *user_data);
using CloseHandler = void (*)(Socket *, int code, const char *message, size_t length, void *user_data);
using UpgradeHandler = void (*)(Response *, Request *, SocketContext *, void *user_data);
using SubscriptionHandler = void (*)(Socket *, const char *topic, size_t length, int count_now, int count_before,
                                     void *user_data);
using ListenHandler = void (*)(ListenSocket *, ListenConfig, void *user_data);

// How the sockets of one path behave.
struct Behaviour {
    int compression;
    unsigned int message_bytes_max;
    unsigned short idle_timeout_seconds;
    unsigned int backpressure_bytes_max;
    bool close_on_backpressure_limit;
    bool reset_idle_timeout_on_send;
    bool send_pings_automatically;
    unsigned short lifetime_minutes_max;
    UpgradeHandler upgrade;
    SocketHandler open;
    MessageHandler message;
    SocketHandler drain;
    ControlHandler ping;
    ControlHandler pong;
    CloseHandler close;
    SubscriptionHandler subscription;
};

struct TlsOptions {
    const char *key_file;
    const char *certificate_file;
    const char *passphrase;
    const char *dh_parameters_file;
    const char *ca_file;
    const char *ciphers;
    int prefer_low_memory;
};

App *uws_create_app(int tls, TlsOptions);
void uws_ws(int tls, App *, const char *path, Behaviour, void *user_data);
void uws_app_listen_with_config(int tls, App *, ListenConfig, ListenHandler, void *user_data);
void uws_app_run(int tls, App *);
bool uws_publish(int tls, App *, const char *topic, size_t topic_length, const char *message, size_t length, Opcode,
                 bool compress);
SendStatus uws_ws_send(int tls, Socket *, const char *message, size_t length, Opcode);
void uws_ws_end(int tls, Socket *, int code, const char *message, size_t length);
bool uws_ws_subscribe(int tls, Socket *, const char *topic, size_t length);
}
