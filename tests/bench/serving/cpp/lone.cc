// `lone serve`: a gRPC echo in C++; prints its port. `lone call ADDRESS N FILE`: calls ADDRESS N times, one after another,
// with the messages of FILE (each a 4-byte length and its bytes, in turn), and prints the microseconds of each call.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <future>
#include <string>
#include <vector>

namespace {

const char kMethod[] = "/turnout.v1.RouterService/Route";
const size_t kReplyBytes = 150;

grpc::ByteBuffer buffer_of(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

class Reactor : public grpc::ServerGenericBidiReactor {
 public:
  Reactor() { StartRead(&request_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    reply_ = buffer_of(std::string(kReplyBytes, '\n'));
    StartWriteAndFinish(&reply_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer request_, reply_;
};

class Echo : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override { return new Reactor; }
};

int serve() {
  Echo echo;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&echo);
  auto server = builder.BuildAndStart();
  std::printf("127.0.0.1:%d\n", port);
  std::fflush(stdout);
  server->Wait();
  return 0;
}

int call(const char* address, int n, const char* path) {
  std::vector<std::string> messages;
  std::ifstream file(path, std::ios::binary);
  for (uint32_t size; file.read(reinterpret_cast<char*>(&size), sizeof size);) {
    std::string one(size, '\0');
    file.read(&one[0], size);
    messages.push_back(one);
  }
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  for (int i = 0; i < n; i++) {
    grpc::ByteBuffer request = buffer_of(messages[i % messages.size()]), reply;
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto start = std::chrono::steady_clock::now();
    auto reader = stub.PrepareUnaryCall(&context, kMethod, request, &queue);
    grpc::Status status;
    reader->StartCall();
    reader->Finish(&reply, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    auto took = std::chrono::steady_clock::now() - start;
    if (!status.ok()) {
      std::fprintf(stderr, "status %d\n", static_cast<int>(status.error_code()));
      return 1;
    }
    std::printf("%.1f\n", std::chrono::duration<double, std::micro>(took).count());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && !std::strcmp(argv[1], "serve")) return serve();
  if (argc == 5 && !std::strcmp(argv[1], "call")) return call(argv[2], std::atoi(argv[3]), argv[4]);
  return 2;
}
